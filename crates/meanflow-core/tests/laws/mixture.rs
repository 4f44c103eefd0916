//! The same laws on mixtures, whose average velocity is an ODE solve, and on class-conditional data.

use meanflow_core::oracle::{ClassConditional, Gaussian, Mixture, along_trajectory};
use meanflow_core::{Interval, Schedule, identity_residual, jump};
use num_dual::Dual64;
use proptest::prelude::*;

use crate::cases::{analytic_schedules, gaussians, intervals, schedules};

fn mixtures() -> impl Strategy<Value = Vec<(f64, Gaussian)>> {
    prop::collection::vec((0.1..1.0, gaussians()), 1..4)
}

/// `∂_z ∫ p v` and `∂_t p` need a density: `p(z_t)` of a mixture, by its components.
fn density<D: meanflow_core::Scalar>(
    parts: &[(f64, Gaussian)],
    schedule: &Schedule,
    z: D,
    t: D,
) -> D {
    parts
        .iter()
        .map(|(weight, part)| {
            let data = schedule.a(t) * part.std();
            let noise = schedule.b(t);
            let variance = data * data + noise * noise;
            let deviation = z - schedule.a(t) * part.mean();
            (deviation * deviation / variance * -0.5).exp() / variance.sqrt() * *weight
        })
        .sum()
}

proptest! {
    #[test]
    fn a_mixture_of_equals_is_their_gaussian(
        schedule in schedules(), data in gaussians(), weights in prop::collection::vec(0.1..1.0, 1..4),
        z in -5.0..5.0f64, t in 0.0..=1.0,
    ) {
        let mixture = Mixture::new(weights.into_iter().map(|weight| (weight, data)).collect()).unwrap();
        let expected = data.velocity(&schedule, z, t);
        // A weighted mean of equal numbers, to a few roundings.
        prop_assert!((mixture.velocity(&schedule, z, t) - expected).abs() <= 1e-14 * (1.0 + expected.abs()));
    }

    /// The velocity carries the marginal density: `∂_t p + ∂_z (p v) = 0`.
    #[test]
    fn the_velocity_solves_the_continuity_equation(
        schedule in schedules(), parts in mixtures(), z in -5.0..5.0, t in 0.1..0.9,
    ) {
        let mixture = Mixture::new(parts.clone()).unwrap();
        let (along_z, along_t) = (Dual64::new(z, 1.0), Dual64::new(t, 1.0));
        let (here, now) = (Dual64::from_re(z), Dual64::from_re(t));
        let flux = density(&parts, &schedule, along_z, now) * mixture.velocity(&schedule, along_z, now);
        let change = density(&parts, &schedule, here, along_t).eps;
        // Some thirty operations on numbers of up to 10³ where data is narrow.
        prop_assert!((change + flux.eps).abs() <= 1e-11 * (1.0 + change.abs()), "{change} {}", flux.eps);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_identity_holds_for_a_solved_average(
        schedule in analytic_schedules(), parts in mixtures(), interval in intervals(), quantile in -2.0..2.0,
    ) {
        let mixture = Mixture::new(parts).unwrap();
        let u = |z: Dual64, r, t| mixture.average_velocity(&schedule, z, r, t).unwrap();
        let (r, t) = (interval.r(), interval.t());
        let z = schedule.b(t) * quantile;
        let v = mixture.velocity(&schedule, z, t);
        let average = mixture.average_velocity(&schedule, z, r, t).unwrap();
        let dudt = along_trajectory(u, z, v, interval);
        let residual = identity_residual(&average, &v, &dudt, &[interval.length()]);
        // The solver's 10⁻¹² a step, times up to some hundreds of steps and the spreading of trajectories between modes.
        let scale = 1.0 + v.abs() + average.abs() + (interval.length() * dudt).abs();
        prop_assert!(residual.abs() <= 1e-8 * scale, "{residual:e} of {scale}");
    }
}

#[test]
fn one_jump_separates_two_modes() {
    let modes = [-2.0, 2.0].map(|mean| (0.5, Gaussian::new(mean, 0.1).unwrap()));
    let mixture = Mixture::new(modes.to_vec()).unwrap();
    let whole = Interval::new(0.0, 1.0).unwrap();
    for (noise, mode) in [(-1.0, -2.0), (0.5, 2.0)] {
        let u = mixture
            .average_velocity(&Schedule::Linear, noise, whole.r(), whole.t())
            .unwrap();
        let sample: f64 = jump(&noise, &u, &[whole.length()]);
        // Half a standard deviation of noise from the ridge is within four of the mode.
        assert!((sample - mode).abs() < 0.4, "{noise} went to {sample}");
    }
}

#[test]
fn far_from_every_component_nothing_underflows() {
    let parts = vec![
        (1.0, Gaussian::new(-1.0, 0.01).unwrap()),
        (1.0, Gaussian::new(1.0, 0.01).unwrap()),
    ];
    let mixture = Mixture::new(parts).unwrap();
    assert!(
        mixture
            .velocity(&Schedule::Linear, 500.0, 1e-3f64)
            .is_finite()
    );
}

#[test]
fn a_class_is_one_gaussian_and_all_are_the_mixture() {
    let parts = vec![
        (0.3, Gaussian::new(-1.0, 0.5).unwrap()),
        (0.7, Gaussian::new(2.0, 1.0).unwrap()),
    ];
    let data = ClassConditional::new(parts.clone()).unwrap();
    assert_eq!(data.classes(), [parts[0].1, parts[1].1]);
    assert_eq!(data.marginal(), &Mixture::new(parts).unwrap());
}

#[test]
fn data_without_components_or_spread_is_refused() {
    assert_eq!(
        Mixture::new(Vec::new()).unwrap_err().to_string(),
        "components: expected at least 1, got 0"
    );
    let data = Gaussian::new(0.0, 1.0).unwrap();
    for weight in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        assert!(Mixture::new(vec![(weight, data)]).is_err());
    }
    for (mean, std) in [(f64::NAN, 1.0), (0.0, 0.0), (0.0, f64::NAN), (0.0, -1.0)] {
        assert!(Gaussian::new(mean, std).is_err());
    }
}
