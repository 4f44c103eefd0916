//! Laws of (r, t): counts, frequencies and distributions. Every seed is fixed.

use meanflow_core::{
    Interval, MaskOrder, MeanFlowRatio, Purpose, RngStream, TimeDistribution, TimeDraw, TimeSampler,
};
use proptest::prelude::*;

use crate::random::{RARE, distance, normal_law};

const OFFICIAL: TimeDistribution = TimeDistribution::LogitNormal {
    mean: -0.4,
    std: 1.0,
};

/// The recipe of the CIFAR code, v1: two laws, masked by chance before ordering.
const CIFAR: TimeSampler = TimeSampler {
    t: TimeDistribution::LogitNormal {
        mean: -0.6,
        std: 1.6,
    },
    r: Some(TimeDistribution::LogitNormal {
        mean: -4.0,
        std: 1.6,
    }),
    mean_flow_ratio: MeanFlowRatio::Bernoulli(0.75),
    order: MaskOrder::BeforeOrdering,
};

fn one_law(mean_flow_ratio: MeanFlowRatio, order: MaskOrder) -> TimeSampler {
    TimeSampler {
        t: OFFICIAL,
        r: None,
        mean_flow_ratio,
        order,
    }
}

fn draw(law: &TimeSampler, rows: usize, seed: u64) -> TimeDraw {
    law.draw(rows, &mut RngStream::new(seed, Purpose::Times, 0))
}

/// The distribution function of the official law.
fn official(t: f64) -> f64 {
    normal_law((t / (1.0 - t)).ln() + 0.4)
}

/// The `t` of each.
fn upper(intervals: &[Interval]) -> Vec<f64> {
    intervals.iter().map(Interval::t).collect()
}

fn laws() -> impl Strategy<Value = TimeSampler> {
    let time = || {
        prop_oneof![
            Just(TimeDistribution::Uniform),
            // Wide enough to saturate at both ends.
            (-50.0..50.0, 0.1..50.0)
                .prop_map(|(mean, std)| TimeDistribution::LogitNormal { mean, std }),
        ]
    };
    let share = || prop_oneof![Just(0.0), Just(1.0), 0.0..=1.0];
    let mean_flow_ratio = prop_oneof![
        share().prop_map(MeanFlowRatio::Count),
        share().prop_map(MeanFlowRatio::Bernoulli),
    ];
    let order = prop::sample::select(vec![MaskOrder::AfterOrdering, MaskOrder::BeforeOrdering]);
    (time(), prop::option::of(time()), mean_flow_ratio, order).prop_map(
        |(t, r, mean_flow_ratio, order)| TimeSampler {
            t,
            r,
            mean_flow_ratio,
            order,
        },
    )
}

proptest! {
    #[test]
    fn mean_flow_rows_come_first_and_are_counted(law in laws(), rows in 0usize..40, seed: u64) {
        let draw = draw(&law, rows, seed);
        prop_assert_eq!(draw.intervals.len(), rows);
        prop_assert!(draw.intervals[..draw.jumps].iter().all(|i| i.r() < i.t()));
        prop_assert!(draw.intervals[draw.jumps..].iter().all(|i| i.r() == i.t()));
        let columns = draw.ts().into_iter().zip(draw.rs()).zip(draw.lengths());
        for (interval, ((t, r), length)) in draw.intervals.iter().zip(columns) {
            prop_assert_eq!((interval.t(), interval.r(), interval.length()), (t, r, length));
        }
    }

    #[test]
    fn a_draw_can_be_repeated(law in laws(), seed: u64) {
        prop_assert_eq!(draw(&law, 9, seed), draw(&law, 9, seed));
    }

    /// `B − ⌊B p⌋` with the share of flow-matching rows `p` in thousandths, in integers.
    #[test]
    fn the_count_is_that_of_exact_arithmetic(rows in 0usize..5000, thousandths in 0usize..=1000) {
        let law = one_law(MeanFlowRatio::Count(thousandths as f64 / 1000.0), MaskOrder::AfterOrdering);
        prop_assert_eq!(draw(&law, rows, 0).jumps, rows - rows * (1000 - thousandths) / 1000);
    }
}

#[test]
fn the_frequency_of_mean_flow_rows_is_their_share() {
    for share in [0.0, 0.25, 0.75, 1.0] {
        for order in [MaskOrder::AfterOrdering, MaskOrder::BeforeOrdering] {
            let law = one_law(MeanFlowRatio::Bernoulli(share), order);
            let frequency = draw(&law, 100_000, 3).jumps as f64 / 1e5;
            // Four standard deviations of a frequency in 10⁵ rows.
            assert!(
                (frequency - share).abs() <= 4.0 * (share * (1.0 - share) / 1e5).sqrt(),
                "{share}: {frequency}"
            );
        }
    }
}

#[test]
fn after_ordering_every_row_keeps_the_larger_draw() {
    let law = one_law(MeanFlowRatio::Count(0.25), MaskOrder::AfterOrdering);
    let draw = draw(&law, 40_000, 1);
    let (jumps, flow) = draw.intervals.split_at(draw.jumps);
    assert!(distance(upper(jumps), |t| official(t).powi(2)) < RARE);
    assert!(distance(upper(flow), |t| official(t).powi(2)) < RARE);
    let lower = jumps.iter().map(Interval::r).collect();
    assert!(distance(lower, |r| 1.0 - (1.0 - official(r)).powi(2)) < RARE);
}

#[test]
fn before_ordering_flow_rows_keep_a_single_draw() {
    let law = one_law(MeanFlowRatio::Count(0.25), MaskOrder::BeforeOrdering);
    let draw = draw(&law, 40_000, 1);
    let (jumps, flow) = draw.intervals.split_at(draw.jumps);
    assert!(distance(upper(flow), official) < RARE);
    assert!(distance(upper(jumps), |t| official(t).powi(2)) < RARE);
}

#[test]
fn with_two_laws_t_is_never_moved_and_late_r_makes_a_flow_row() {
    let draw = draw(&CIFAR, 100_000, 2);
    let law = |t: f64| normal_law(((t / (1.0 - t)).ln() + 0.6) / 1.6);
    assert!(distance(draw.ts(), law) < RARE);
    // r < t: the difference of the logits, N(3.4, 2·1.6²), is positive.
    let expected = 0.75 * normal_law(3.4 / (1.6 * std::f64::consts::SQRT_2));
    let frequency = draw.jumps as f64 / 1e5;
    assert!(
        (frequency - expected).abs() < 4.0 * (expected * (1.0 - expected) / 1e5).sqrt(),
        "{frequency}"
    );
}

#[test]
fn with_two_laws_ordering_first_may_swap_them() {
    let swapped = TimeSampler {
        t: CIFAR.r.unwrap(),
        r: Some(CIFAR.t),
        mean_flow_ratio: MeanFlowRatio::Count(1.0),
        order: MaskOrder::AfterOrdering,
    };
    // The law of t is far below that of r, yet the larger draw is t.
    let drawn = draw(&swapped, 1000, 0).intervals;
    assert!(drawn.iter().all(Interval::is_jump));
}

#[test]
fn times_have_their_law() {
    let mut stream = RngStream::new(11, Purpose::Times, 0);
    let mut sample = |law: TimeDistribution| -> Vec<f64> {
        (0..50_000).map(|_| law.sample(&mut stream)).collect()
    };
    assert!(distance(sample(TimeDistribution::Uniform), |t| t) < RARE);
    assert!(distance(sample(OFFICIAL), official) < RARE);
}
