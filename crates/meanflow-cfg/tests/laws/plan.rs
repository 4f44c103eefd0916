//! The plan asks for every forward that is weighed, and for no other.

use meanflow_cfg::{ClassDropout, DropoutRows, Guidance, GuidanceInterval, GuidancePlan};
use meanflow_core::{
    MaskOrder, MeanFlowRatio, Purpose, RngStream, TimeDistribution, TimeDraw, TimeSampler,
};
use proptest::prelude::*;

fn times(rows: usize, share: f64, step: u64) -> TimeDraw {
    let law = TimeSampler {
        t: TimeDistribution::Uniform,
        r: None,
        mean_flow_ratio: MeanFlowRatio::Count(share),
        order: MaskOrder::AfterOrdering,
    };
    law.draw(rows, &mut RngStream::new(1, Purpose::Times, step))
}

proptest! {
    #[test]
    fn a_forward_is_planned_where_it_is_weighed_and_nowhere_else(
        omega in prop_oneof![Just(1.0), Just(2.0), 0.1..3.0], kappa in prop_oneof![Just(0.0), Just(0.5), 0.0..0.99],
        start in 0.0..0.5, end in 0.5..1.0, rows in 1usize..20, share in 0.0..=1.0, drop in 0.0..=1.0, step: u64,
    ) {
        let guidance = Guidance::new(omega, kappa, GuidanceInterval::new(start, end).unwrap()).unwrap();
        let times = times(rows, share, step);
        let dropped = ClassDropout::new(drop, DropoutRows::Independent).unwrap()
            .draw(rows, times.jumps, &mut RngStream::new(1, Purpose::Labels, step));
        let plan = GuidancePlan::new(&guidance, &times, &dropped);
        for (row, weights) in plan.coefficients.iter().enumerate() {
            prop_assert_eq!(*weights, guidance.coefficients(times.intervals[row].t(), dropped[row]));
            let jump = row < times.jumps;
            prop_assert_eq!(plan.class_forward.contains(&row), jump && weights.class != 0.0);
            prop_assert_eq!(plan.class_reuse.contains(&row), !jump && weights.class != 0.0);
            prop_assert_eq!(plan.null_forward.contains(&row), weights.null != 0.0);
        }
        for planned in [&plan.class_forward, &plan.class_reuse, &plan.null_forward] {
            prop_assert!(planned.is_sorted() && planned.iter().all(|row| *row < rows));
        }
    }
}

/// How many rows of jumps with their class, of flow with theirs and of the null class every batch of a hundred asks for.
fn forwards(rows: DropoutRows, interval: GuidanceInterval) -> Vec<[usize; 3]> {
    let guidance = Guidance::new(1.0, 0.5, interval).unwrap();
    let drop = ClassDropout::new(0.2, rows).unwrap();
    let batch = |step| {
        let times = times(20, 0.25, step);
        let mut stream = RngStream::new(1, Purpose::Labels, step);
        let dropped = drop.draw(20, times.jumps, &mut stream);
        let plan = GuidancePlan::new(&guidance, &times, &dropped);
        [plan.class_forward, plan.class_reuse, plan.null_forward].map(|rows| rows.len())
    };
    (0..100).map(batch).collect()
}

#[test]
fn counted_drops_leave_every_batch_the_same_forwards() {
    // One of five MeanFlow rows and three of fifteen flow-matching rows are without their class.
    assert_eq!(
        forwards(DropoutRows::Count, GuidanceInterval::ALL),
        vec![[4, 12, 16]; 100]
    );
    let part = GuidanceInterval::new(0.2, 0.9).unwrap();
    for (rows, interval) in [
        (DropoutRows::Independent, GuidanceInterval::ALL),
        (DropoutRows::FlowMatching, GuidanceInterval::ALL),
        (DropoutRows::Count, part),
    ] {
        let all = forwards(rows, interval);
        assert!(
            all.iter().any(|one| *one != all[0]),
            "{rows:?} {interval:?}"
        );
    }
}

#[test]
fn without_guidance_nothing_is_planned() {
    let plan = GuidancePlan::new(&Guidance::NONE, &times(8, 0.25, 0), &[false; 8]);
    let planned = [plan.class_forward, plan.class_reuse, plan.null_forward];
    assert!(planned.iter().all(Vec::is_empty));
}

#[test]
fn the_improved_recipe_costs_one_and_a_quarter_forwards() {
    // 25 % MeanFlow rows, ω = 1, κ = ½ at all times: f class rows and all null rows, of B.
    let guidance = Guidance::new(1.0, 0.5, GuidanceInterval::ALL).unwrap();
    let plan = GuidancePlan::new(&guidance, &times(8, 0.25, 0), &[false; 8]);
    assert_eq!(plan.class_forward, [0, 1]);
    assert_eq!((plan.class_reuse.len(), plan.null_forward.len()), (6, 8));
}
