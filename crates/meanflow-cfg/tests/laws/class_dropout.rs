//! Which rows lose their label, and how often. Every seed is fixed.

use meanflow_cfg::{ClassDropout, DropoutRows};
use meanflow_core::{Purpose, RngStream};
use proptest::prelude::*;

const KINDS: [DropoutRows; 3] = [
    DropoutRows::Independent,
    DropoutRows::FlowMatching,
    DropoutRows::Count,
];

fn draw(drop: &ClassDropout, rows: usize, jumps: usize, step: u64) -> Vec<bool> {
    drop.draw(rows, jumps, &mut RngStream::new(5, Purpose::Labels, step))
}

fn count(dropped: &[bool]) -> usize {
    dropped.iter().filter(|dropped| **dropped).count()
}

proptest! {
    #[test]
    fn flow_drops_as_many_rows_as_were_hit_but_never_a_jump(
        probability in 0.0..=1.0, rows in 0usize..40, share in 0.0..=1.0, step: u64,
    ) {
        let jumps = (rows as f64 * share) as usize;
        let hits = count(&draw(&ClassDropout::new(probability, DropoutRows::Independent).unwrap(), rows, jumps, step));
        let dropped = draw(&ClassDropout::new(probability, DropoutRows::FlowMatching).unwrap(), rows, jumps, step);
        prop_assert_eq!(dropped.len(), rows);
        prop_assert_eq!(count(&dropped), hits.min(rows - jumps));
        prop_assert_eq!(count(&dropped[..jumps]), 0);
    }

    #[test]
    fn count_drops_the_nearest_number_of_rows_and_of_jumps(
        probability in 0.0..=1.0, rows in 0usize..40, share in 0.0..=1.0, step: u64,
    ) {
        let jumps = (rows as f64 * share) as usize;
        let drop = ClassDropout::new(probability, DropoutRows::Count).unwrap();
        let dropped = draw(&drop, rows, jumps, step);
        prop_assert_eq!(dropped.len(), rows);
        for part in [&dropped[..], &dropped[..jumps]] {
            // Half a row, and the rounding of a product.
            let error = count(part) as f64 - probability * part.len() as f64;
            prop_assert!(error.abs() <= 0.5 + 1e-12, "{} of {}", count(part), part.len());
        }
        prop_assert_eq!(&dropped, &draw(&drop, rows, jumps, step.wrapping_add(1)));
    }

    #[test]
    fn a_batch_can_lose_a_label_where_one_draw_of_many_does(
        probability in prop_oneof![Just(0.0), 0.1..=1.0], rows in 0usize..8, kind in 0usize..3,
    ) {
        let drop = ClassDropout::new(probability, KINDS[kind]).unwrap();
        // At a probability of 0.1 all 300 miss a single row once in 5e13.
        let any = (0..300).any(|step| count(&draw(&drop, rows, 0, step)) > 0);
        prop_assert_eq!(drop.can_drop(rows), any);
    }

    #[test]
    fn a_draw_can_be_repeated(probability in 0.0..=1.0, step: u64) {
        let drop = ClassDropout::new(probability, DropoutRows::Independent).unwrap();
        prop_assert_eq!(draw(&drop, 20, 5, step), draw(&drop, 20, 5, step));
    }
}

#[test]
fn the_frequency_of_drops_is_their_probability_on_every_kind_of_row() {
    let drop = ClassDropout::new(0.1, DropoutRows::Independent).unwrap();
    let dropped = draw(&drop, 100_000, 25_000, 0);
    for (kind, rows) in [("jump", &dropped[..25_000]), ("flow", &dropped[25_000..])] {
        let n = rows.len() as f64;
        let frequency = count(rows) as f64 / n;
        // Four standard deviations.
        assert!(
            (frequency - 0.1).abs() < 4.0 * (0.09 / n).sqrt(),
            "{kind} rows: {frequency}"
        );
    }
}

#[test]
fn certain_drops_are_certain() {
    let dropped = |drop: ClassDropout| count(&draw(&drop, 1000, 0, 0));
    for rows in KINDS {
        assert_eq!(dropped(ClassDropout::new(0.0, rows).unwrap()), 0);
        assert_eq!(dropped(ClassDropout::new(1.0, rows).unwrap()), 1000);
    }
    assert_eq!(dropped(ClassDropout::NONE), 0);
}
