//! Paths: their ends, their derivatives, and the interpolation they define.

use meanflow_core::schedule::VP_CLAMP;
use meanflow_core::{Schedule, State};
use ndarray::Array2;
use proptest::prelude::*;

use crate::cases::schedules;

/// The usual rates.
const VP: Schedule = Schedule::VariancePreserving {
    beta_min: 0.1,
    beta_max: 20.0,
};

proptest! {
    #[test]
    fn a_path_begins_at_data(schedule in schedules()) {
        prop_assert_eq!((schedule.a(0.0), schedule.b(0.0)), (1.0, 0.0));
        prop_assert_eq!(schedule.prior_scale(), schedule.b(1.0));
    }

    #[test]
    fn data_fades_as_noise_grows(schedule in schedules(), s in 0.0..=1.0, t in 0.0..=1.0) {
        let (s, t) = (f64::min(s, t), f64::max(s, t));
        prop_assert!(schedule.a(s) >= schedule.a(t));
        prop_assert!(schedule.b(s) <= schedule.b(t));
        // cos(π/2) is 6·10⁻¹⁷ in f64.
        prop_assert!((-1e-15..=1.0).contains(&schedule.a(t)) && (0.0..=1.0).contains(&schedule.b(t)));
    }

    #[test]
    fn derivatives_are_those_of_central_differences(schedule in schedules(), t in 0.05..0.95f64) {
        let step = 1e-4;
        let central = |f: &dyn Fn(f64) -> f64| {
            (8.0 * (f(t + step) - f(t - step)) - (f(t + 2.0 * step) - f(t - 2.0 * step))) / (12.0 * step)
        };
        let point = schedule.at(t);
        prop_assert_eq!((point.a, point.b), (schedule.a(t), schedule.b(t)));
        // Rounding leaves 2·10⁻¹²; the fourth-order formula h⁴/30 f⁽⁵⁾ with f⁽⁵⁾ up to 10⁶ (VP near data) 3·10⁻¹².
        prop_assert!((point.da - central(&|t| schedule.a(t))).abs() < 1e-9);
        prop_assert!((point.db - central(&|t| schedule.b(t))).abs() < 1e-9);
    }

    #[test]
    fn variance_preserving_paths_and_cosines_keep_the_variance(schedule in schedules(), t in 0.0..=1.0f64) {
        if matches!(schedule, Schedule::Cosine | Schedule::VariancePreserving { .. }) {
            // Two squares and a sum: three roundings.
            prop_assert!((schedule.a(t).powi(2) + schedule.b(t).powi(2) - 1.0).abs() < 1e-15);
        }
    }

    #[test]
    fn batches_are_interpolated_row_by_row(schedule in schedules(), times in prop::collection::vec(0.0..=1.0, 1..5)) {
        let value = |offset: f64| Array2::from_shape_fn((times.len(), 3), |(i, j)| (offset + (3 * i + j) as f64).sin());
        let (x, e) = (value(0.0), value(0.5));
        let (z, v) = (schedule.interpolate(&x, &e, &times), schedule.velocity(&x, &e, &times));
        for (i, &t) in times.iter().enumerate() {
            for j in 0..3 {
                let (x, e) = (x[[i, j]], e[[i, j]]);
                prop_assert_eq!(z[[i, j]], schedule.interpolate(&x, &e, &[t]));
                prop_assert_eq!(v[[i, j]], schedule.velocity(&x, &e, &[t]));
                let point = schedule.at(t);
                prop_assert_eq!(v[[i, j]], f64::uniform(&[(point.da, &x), (point.db, &e)]));
            }
        }
    }
}

#[test]
fn a_polynomial_of_degree_one_is_linear() {
    let one = Schedule::Polynomial { degree: 1.0 };
    for t in [0.0, 1e-9, 0.3, 1.0] {
        assert_eq!(one.at(t), Schedule::Linear.at(t));
    }
}

#[test]
fn derivatives_are_finite_at_both_ends() {
    let fractional = [1.0, 1.5, 2.0, 2.5, 3.0].map(|degree| Schedule::Polynomial { degree });
    for schedule in [&fractional[..], &[Schedule::Linear, Schedule::Cosine, VP]].concat() {
        for t in [0.0, 1.0] {
            let point = schedule.at(t);
            let is_finite = point.da.is_finite() && point.db.is_finite();
            assert!(is_finite, "{schedule:?} at {t}: {point:?}");
        }
    }
}

#[test]
fn the_variance_preserving_path_leaves_data_and_clamps_one_derivative() {
    let vp = VP;
    // exp(−½ (½·19.9 + 0.1)) = exp(−5.025).
    assert!((vp.a(1.0f64) - 6.57e-3).abs() < 1e-5);
    assert!(vp.at(0.0).db == vp.at(VP_CLAMP).db && vp.at(0.0).db < 51.0);
    assert!(vp.at(2.0 * VP_CLAMP).db < vp.at(VP_CLAMP).db);
    assert_eq!(vp.at(0.0).b, 0.0);
    // 1 − exp(−B) by its series, B = 10⁻¹³: the naive 1 − a² has three digits there.
    let (t, decay) = (1e-12, 1e-13 + 9.95e-24);
    assert!((vp.b(t) / f64::sqrt(decay * (1.0 - decay / 2.0)) - 1.0).abs() < 1e-14);
}
