//! Guided velocities: what they are without guidance, what they converge to, and that the identity holds for them.

use meanflow_cfg::{Coefficients, Guidance, GuidanceInterval, guided_velocity};
use meanflow_core::oracle::{ClassConditional, Gaussian, along_trajectory, average_by_solver};
use meanflow_core::{Interval, Schedule, State, identity_residual};
use ndarray::{Array2, array};
use num_dual::Dual64;
use proptest::prelude::*;

/// ω and κ over the whole range, κ up to a thousandth below 1.
fn scales() -> impl Strategy<Value = (f64, f64)> {
    let kappa = prop_oneof![Just(0.0), Just(0.5), Just(0.92), Just(0.999), 0.0..0.99];
    (prop_oneof![Just(1.0), 0.01..5.0], kappa)
}

fn guidance(omega: f64, kappa: f64) -> Guidance {
    Guidance::new(omega, kappa, GuidanceInterval::ALL).expect("scales in range")
}

fn two_classes(distance: f64, std: f64) -> ClassConditional {
    let class = |mean, std| Gaussian::new(mean, std).expect("a positive deviation");
    ClassConditional::new(vec![
        (0.4, class(-distance, std)),
        (0.6, class(distance, 0.5)),
    ])
    .expect("two classes")
}

/// (M20) for every velocity being its marginal one, repeated until it rests: the network learns its own target.
fn fixed_point(guidance: &Guidance, class: f64, null: f64, mut learned: f64) -> f64 {
    let weights = [guidance.coefficients(0.5, false)];
    // Every round leaves κ of the error: 10⁻¹⁶ of it after this many.
    let rounds = 1 + (16.0 * 10f64.ln() / -guidance.kappa().ln()) as usize;
    for _ in 0..rounds {
        learned = guided_velocity(&class, Some(&learned), Some(&null), &weights);
    }
    learned
}

proptest! {
    #[test]
    fn effective_scale_m21_is_the_fixed_point_of_m20(
        (omega, kappa) in scales(), distance in 0.5..2.0, z in -2.0..2.0, t in 0.0..=1.0, start in -5.0..5.0,
    ) {
        let data = two_classes(distance, 0.3);
        let class = data.classes()[1].velocity(&Schedule::Linear, z, t);
        let null = data.marginal().velocity(&Schedule::Linear, z, t);
        let guidance = guidance(omega, kappa);
        let learned = fixed_point(&guidance, class, null, start);
        // The field (M16) of scale ω'.
        let scale = guidance.effective_scale();
        let expected = f64::uniform(&[(scale, &class), (1.0 - scale, &null)]);
        // Rounding of each round adds up to 1/(1−κ) of one.
        let size = 1.0 + (scale * class).abs() + (scale * null).abs() + start.abs();
        prop_assert!((learned - expected).abs() <= 1e-14 * size / (1.0 - kappa), "{learned} and {expected}");
        // The scale itself, read off the field where the classes differ.
        if (class - null).abs() > 0.1 {
            let measured = (learned - null) / (class - null);
            prop_assert!((measured - scale).abs() <= 1e-12 * size / (1.0 - kappa), "{measured} and {scale}");
        }
    }

    #[test]
    fn omega_one_and_kappa_zero_is_no_guidance(v in -5.0..5.0, t in 0.0..=1.0) {
        prop_assert_eq!(guidance(1.0, 0.0).coefficients(t, false), Coefficients::PLAIN);
        prop_assert_eq!(guided_velocity(&v, None, None, &[Guidance::NONE.coefficients(t, false)]), v);
    }

    #[test]
    fn weights_sum_to_one_so_equal_velocities_stay((omega, kappa) in scales(), v in -5.0..5.0f64) {
        let weights = guidance(omega, kappa).coefficients(0.5, false);
        // Three weights of up to 5 and their sum: a few roundings.
        prop_assert!((weights.velocity + weights.class + weights.null - 1.0).abs() < 1e-14);
        prop_assert!((guided_velocity(&v, Some(&v), Some(&v), &[weights]) - v).abs() < 1e-13);
    }

    #[test]
    fn outside_the_window_and_without_label_the_velocity_is_plain(
        (omega, kappa) in scales(), start in 0.0..0.5, end in 0.5..1.0, t in 0.0..=1.0, dropped: bool,
    ) {
        let guidance = Guidance::new(omega, kappa, GuidanceInterval::new(start, end).unwrap()).unwrap();
        let weights = guidance.coefficients(t, dropped);
        if dropped || t < start || t > end {
            prop_assert_eq!(weights, Coefficients::PLAIN);
        } else {
            prop_assert_eq!((weights.velocity, weights.class, weights.null), (omega, kappa, 1.0 - omega - kappa));
        }
    }

    #[test]
    fn batches_are_guided_row_by_row(rows in prop::collection::vec((scales(), any::<bool>()), 1..5)) {
        let value = |offset: f64| Array2::from_shape_fn((rows.len(), 2), |(i, j)| (offset + (2 * i + j) as f64).sin());
        let (v, class, null) = (value(0.0), value(1.0), value(2.0));
        let weights: Vec<Coefficients> = rows
            .iter()
            .map(|&((omega, kappa), dropped)| guidance(omega, kappa).coefficients(0.5, dropped))
            .collect();
        let guided = guided_velocity(&v, Some(&class), Some(&null), &weights);
        for ((i, j), &value) in guided.indexed_iter() {
            let alone = guided_velocity(&v[[i, j]], Some(&class[[i, j]]), Some(&null[[i, j]]), &weights[i..=i]);
            prop_assert_eq!(value, alone);
            if rows[i].1 {
                prop_assert_eq!(value, v[[i, j]]);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// (M17): the guided field has an average velocity of its own, which obeys the identity; (M18): at `r = t` it is the
    /// guided field, and for a class of all data the field itself.
    #[test]
    fn the_identity_holds_for_the_guided_field(
        (omega, kappa) in scales(), z in -2.0..2.0, r in 0.0..=1.0, share in prop_oneof![Just(0.0), Just(1e-9), 0.0..=1.0],
    ) {
        let interval = Interval::new(r, r + share * (1.0 - r)).unwrap();
        let data = two_classes(1.0, 0.5);
        let scale = guidance(omega, kappa.min(0.8)).effective_scale();
        let field = |z: Dual64, t: Dual64| {
            let class = data.classes()[0].velocity(&Schedule::Linear, z, t);
            class * scale + data.marginal().velocity(&Schedule::Linear, z, t) * (1.0 - scale)
        };
        let constant = Dual64::from_re;
        let v = field(constant(z), constant(interval.t())).re;
        let u = |z, r, t| average_by_solver(field, z, r, t).unwrap();
        let average = u(constant(z), constant(interval.r()), constant(interval.t())).re;
        let dudt = along_trajectory(u, z, v, interval);
        let residual = identity_residual(&average, &v, &dudt, &[interval.length()]);
        // Some hundreds of solver steps of 10⁻¹², on a field that guidance makes up to 25 times as steep.
        let size = 1.0 + v.abs() + average.abs() + (interval.length() * dudt).abs();
        prop_assert!(residual.abs() <= 1e-8 * size, "{residual:e} of {size}");
        if !interval.is_jump() {
            prop_assert!((average - v).abs() <= 1e-12 * size);
        }
    }
}

#[test]
fn the_published_settings_have_the_published_scales() {
    // (ω, κ, ω') of the models B, M, L and XL.
    for (omega, kappa, scale) in [(1.0, 0.5, 2.0), (0.2, 0.92, 2.5), (2.0, 0.0, 2.0)] {
        // 1 − 0.92 is rounded.
        assert!((guidance(omega, kappa).effective_scale() - scale).abs() < 1e-14);
    }
}

#[test]
fn with_kappa_zero_the_class_velocity_is_not_needed() {
    let weights = [guidance(2.0, 0.0).coefficients(0.5, false)];
    // (M19): 2 v − null.
    assert_eq!(guided_velocity(&3.0, None, Some(&1.0), &weights), 5.0);
}

#[test]
fn both_ends_of_a_window_are_guided() {
    let guidance = Guidance::new(2.0, 0.0, GuidanceInterval::new(0.3, 0.8).unwrap()).unwrap();
    let guided = |t| guidance.coefficients(t, false) != Coefficients::PLAIN;
    assert!(guided(0.3) && guided(0.8));
    assert!(!guided(0.3f64.next_down()) && !guided(0.8f64.next_up()));
}

#[test]
#[should_panic(expected = "was left out")]
fn a_velocity_that_weighs_cannot_be_left_out() {
    let v = array![[1.0], [2.0]];
    let weights = [
        Coefficients::PLAIN,
        guidance(1.0, 0.5).coefficients(0.5, false),
    ];
    guided_velocity(&v, None, Some(&v), &weights);
}
