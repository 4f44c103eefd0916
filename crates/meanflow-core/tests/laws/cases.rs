//! Generators that go where formulas break: ends of time, empty and tiny intervals, one row, narrow data.

use meanflow_core::oracle::Gaussian;
use meanflow_core::{Interval, Schedule};
use proptest::prelude::*;

/// Every kind of schedule, with whole and fractional degrees.
pub(crate) fn schedules() -> impl Strategy<Value = Schedule> {
    prop_oneof![
        Just(Schedule::Linear),
        prop::sample::select(vec![1.0, 1.5, 2.0, 2.5, 3.0, 5.0])
            .prop_map(|degree| Schedule::Polynomial { degree }),
        Just(Schedule::Cosine),
        (0.05..1.0, 1.0..20.0)
            .prop_map(|(beta_min, beta_max)| Schedule::VariancePreserving { beta_min, beta_max }),
    ]
}

/// Schedules that are smooth at data too, where no digit is lost however near `r` and `t` are to 0.
pub(crate) fn analytic_schedules() -> impl Strategy<Value = Schedule> {
    schedules().prop_filter(
        "a fractional degree has no Taylor series at 0",
        |schedule| !matches!(schedule, Schedule::Polynomial { degree } if degree.fract() != 0.0),
    )
}

/// Intervals, half of them hard: `r = t`, neighbouring floats, every scale of `t − r` and of `t`, the ends.
pub(crate) fn intervals() -> impl Strategy<Value = Interval> {
    let ordered = |r: f64, t: f64| Interval::new(r.min(t), r.max(t)).expect("ordered times");
    let short = |t: f64, exponent: f64| Interval::new((t - 10f64.powf(exponent)).max(0.0), t);
    prop_oneof![
        4 => (0.0..=1.0, 0.0..=1.0).prop_map(move |(r, t)| ordered(r, t)),
        1 => (0.0..=1.0).prop_map(move |t| ordered(t, t)),
        1 => (0.0..=1.0, -16.0..-0.5).prop_map(move |(t, e)| short(t, e).expect("ordered times")),
        1 => (0.1..1.0f64).prop_map(move |t| ordered(t.next_down(), t)),
        1 => (-16.0..0.0).prop_map(move |e| ordered(0.0, 10f64.powf(e))),
        1 => prop::sample::select(vec![(0.0, 0.0), (0.0, 1.0), (1.0, 1.0), (0.0, f64::EPSILON)])
            .prop_map(move |(r, t)| ordered(r, t)),
    ]
}

/// Gaussian data, from narrow to wide.
pub(crate) fn gaussians() -> impl Strategy<Value = Gaussian> {
    (-5.0..5.0, 0.05..3.0)
        .prop_map(|(mean, std)| Gaussian::new(mean, std).expect("a positive deviation"))
}

/// A state that the data reaches at `t`: `quantile` standard deviations from the mean.
pub(crate) fn likely_state(schedule: &Schedule, data: &Gaussian, quantile: f64, t: f64) -> f64 {
    data.flow(schedule, data.mean() + quantile * data.std(), t, 0.0)
}
