//! Solvers: the order they declare is the order they show, and the tolerance asked for is met.

use meanflow_core::Schedule;
use meanflow_core::oracle::Gaussian;
use meanflow_core::solver::{
    DORMAND_PRINCE, EULER, HEUN, RK4, SolverError, Tableau, Tolerance, integrate,
    integrate_adaptive,
};
use ndarray::{Array1, Array2, Axis, array, stack};
use proptest::prelude::*;

const METHODS: [&Tableau; 4] = [&EULER, &HEUN, &RK4, &DORMAND_PRINCE];

fn even_grid(from: f64, to: f64, steps: u32) -> Vec<f64> {
    (0..=steps)
        .map(|i| from + (to - from) * f64::from(i) / f64::from(steps))
        .collect()
}

/// Least-squares slope of `log error` over `log steps`, with its sign turned.
fn measured_order(errors: &[(u32, f64)]) -> f64 {
    let logs = errors
        .iter()
        .map(|&(n, error)| [f64::from(n), error].map(f64::ln));
    let logs: Vec<[f64; 2]> = logs.collect();
    let mean = |part: usize| logs.iter().map(|p| p[part]).sum::<f64>() / logs.len() as f64;
    let (mx, my) = (mean(0), mean(1));
    let covariance: f64 = logs.iter().map(|[x, y]| (x - mx) * (y - my)).sum();
    let variance: f64 = logs.iter().map(|[x, _]| (x - mx).powi(2)).sum();
    -covariance / variance
}

/// Errors on circles of radius ρ run through at the speed ρ² w(t): `z' = |z|² w(t) i z`, nonlinear in the state and
/// dependent on time, whose solutions are `ρ exp(i ρ² W(t))` with `W' = w`.
fn errors(method: &Tableau, from: f64, to: f64) -> Vec<(u32, f64)> {
    // Several solutions, as the error of one may pass through zero at some step size.
    let radii = array![0.8, 1.0, 1.3];
    let exact = |t: f64| {
        let angle = t + (3.0 * t).sin() / 6.0;
        Array2::from_shape_fn((3, 2), |(i, part)| {
            let (sin, cos) = (radii[i] * radii[i] * angle).sin_cos();
            radii[i] * [cos, sin][part]
        })
    };
    let field = |z: &Array2<f64>, t: f64| {
        let (x, y) = (z.column(0).to_owned(), z.column(1).to_owned());
        let speed = (&x * &x + &y * &y) * (1.0 + 0.5 * (3.0 * t).cos());
        stack![Axis(1), -&speed * &y, speed * x]
    };
    [64, 128, 256, 512]
        .map(|steps| {
            let end = integrate(method, field, exact(from), &even_grid(from, to, steps));
            (steps, (end - exact(to)).mapv(f64::abs).sum())
        })
        .to_vec()
}

#[test]
fn every_method_has_the_order_it_declares() {
    for method in METHODS {
        // Both ways of time.
        for (from, to) in [(1.5, 0.0), (0.0, 1.5)] {
            let errors = errors(method, from, to);
            let order = measured_order(&errors);
            // The next term of the error bends the line by a tenth at these steps; the next order is one away.
            assert!(
                (order - f64::from(method.order)).abs() < 0.2,
                "{}: {order} from {errors:?}",
                method.name
            );
        }
    }
}

#[test]
fn tableaus_are_consistent() {
    for method in METHODS {
        let count = method.nodes.len();
        assert_eq!((method.stages.len(), method.weights.len()), (count, count));
        // Sums of fractions that are exact in real numbers.
        assert!(
            (method.weights.iter().sum::<f64>() - 1.0).abs() < 1e-15,
            "{}",
            method.name
        );
        for (i, (node, stage)) in method.nodes.iter().zip(method.stages).enumerate() {
            assert_eq!(stage.len(), i);
            // Coefficients up to 12 cancel.
            assert!(
                (stage.iter().sum::<f64>() - node).abs() < 1e-14,
                "{} stage {i}",
                method.name
            );
        }
    }
}

#[test]
fn no_step_leaves_the_state_alone() {
    let never = |_: &f64, _: f64| unreachable!("no evaluation without a step");
    assert_eq!(integrate(&RK4, never, 2.0, &[0.5]), 2.0);
    assert_eq!(integrate(&RK4, never, 2.0, &[]), 2.0);
}

#[test]
fn times_of_evaluation_stay_within_the_grid() {
    let mut times = Vec::new();
    let grid = [1.0, 0.9, 0.3, 0.1, 0.0];
    let field = |z: &f64, t| {
        times.push(t);
        *z
    };
    integrate(&DORMAND_PRINCE, field, 1.0, &grid);
    assert!(times.iter().all(|t| (0.0..=1.0).contains(t)), "{times:?}");
    // The last slope of a step is taken exactly where the next one starts.
    assert!(grid[1..].iter().all(|t| times.contains(t)));
}

#[test]
fn a_batch_is_solved_row_by_row() {
    let data = Gaussian::new(1.0, 0.8).unwrap();
    let start = array![[0.5, -1.0], [2.0, 0.1]];
    let grid = even_grid(1.0, 0.0, 7);
    let one = |z: &f64, t| data.velocity(&Schedule::Linear, *z, t);
    let all = |z: &Array2<f64>, t| z.mapv(|z| one(&z, t));
    let batch = integrate(&HEUN, all, start.clone(), &grid);
    for (&z, &end) in start.iter().zip(&batch) {
        assert_eq!(integrate(&HEUN, one, z, &grid), end);
    }
}

fn tolerance(size: f64) -> Tolerance {
    Tolerance {
        abs: size,
        rel: size,
        max_steps: 100_000,
    }
}

proptest! {
    #[test]
    fn the_adaptive_solver_meets_its_tolerance(
        exponent in -12.0..-6.0, mean in -3.0..3.0, std in 0.1..2.0, forward: bool,
    ) {
        let data = Gaussian::new(mean, std).unwrap();
        let (from, to) = if forward { (0.0, 1.0) } else { (1.0, 0.0) };
        let along = |z: f64, to, from| data.flow(&Schedule::Cosine, z, to, from);
        // Several trajectories, as the estimate of one may vanish by accident.
        let start = array![-2.0, -0.7, 0.4, 1.5].mapv(|quantile| along(mean + std * quantile, from, 0.0));
        let size = 10f64.powf(exponent);
        let field = |z: &Array1<f64>, t| z.mapv(|z| data.velocity(&Schedule::Cosine, z, t));
        let solution = integrate_adaptive(field, start.clone(), from, to, tolerance(size)).unwrap();
        prop_assert_eq!(solution.nfe, 1 + 6 * (solution.steps + solution.rejected));
        // The tolerance bounds the estimate of each step's error; errors add up, and are stretched as trajectories
        // spread, by S_1/S_0 or its inverse.
        let spread = if forward { 1.0 / std } else { std }.max(1.0);
        for (&start, &end) in start.iter().zip(&solution.state) {
            let error = (end - along(start, to, from)).abs();
            let allowed = size * solution.steps as f64 * (1.0 + end.abs().max(start.abs())) * spread;
            prop_assert!(error <= allowed, "{error:e} over {allowed:e}");
        }
    }
}

#[test]
fn steps_grow_as_the_fifth_root_of_the_tolerance() {
    let data = Gaussian::new(1.0, 0.3).unwrap();
    let field = |z: &f64, t| data.velocity(&Schedule::Cosine, *z, t);
    let steps = |size| {
        let solution = integrate_adaptive(field, 1.5, 1.0, 0.0, tolerance(size));
        solution.unwrap().steps as f64
    };
    let growth = (steps(1e-12) / steps(1e-7)).ln() / 1e5f64.ln();
    // Whole steps, and a first one that is chosen without knowing the tolerance.
    assert!((growth - 0.2).abs() < 0.04, "{growth}");
}

#[test]
fn every_row_of_a_batch_is_as_exact_as_alone() {
    // A fast oscillation beside a hundred rows at rest, in whose mean it would drown.
    let mut start = Array2::zeros((101, 2));
    start[[70, 0]] = 1.0;
    let field = |z: &Array2<f64>, _: f64| {
        let mut slope = Array2::zeros(z.raw_dim());
        for (mut to, from) in slope.outer_iter_mut().zip(z.outer_iter()) {
            (to[0], to[1]) = (-30.0 * from[1], 30.0 * from[0]);
        }
        slope
    };
    let solution = integrate_adaptive(field, start, 0.0, 1.0, tolerance(1e-9)).unwrap();
    let error = (solution.state[[70, 0]] - 30f64.cos()).abs();
    // Steps of error 10⁻⁹ that all turn the same way.
    assert!(
        error < 1e-9 * solution.steps as f64,
        "{error:e} after {} steps",
        solution.steps
    );
}

#[test]
fn nowhere_to_go_takes_no_step() {
    let solution = integrate_adaptive(|z: &f64, _| *z, 2.0, 0.5, 0.5, tolerance(1e-6)).unwrap();
    assert_eq!((solution.state, solution.steps), (2.0, 0));
}

#[test]
fn failures_are_told_with_their_place() {
    let blow_up = integrate_adaptive(|z: &f64, _| z * z, 2.0, 0.0, 1.0, tolerance(1e-9));
    match blow_up.unwrap_err() {
        // z' = z² from 2 is infinite at t = ½.
        SolverError::NoStep { time } => assert!((time - 0.5).abs() < 1e-3, "{time}"),
        other => panic!("{other}"),
    }
    let nan = integrate_adaptive(|_: &f64, _| f64::NAN, 2.0, 0.0, 1.0, tolerance(1e-9));
    assert_eq!(nan.unwrap_err(), SolverError::NoStep { time: 0.0 });
    let few = Tolerance {
        max_steps: 3,
        ..tolerance(1e-12)
    };
    let stopped = integrate_adaptive(|z: &f64, _| 50.0 * z, 1.0, 0.0, 1.0, few);
    assert!(matches!(
        stopped.unwrap_err(),
        SolverError::TooManySteps { to: 1.0, .. }
    ));
}

#[test]
fn settings_that_mean_nothing_are_refused() {
    let field = |z: &f64, _: f64| *z;
    for (abs, rel) in [
        (0.0, 1e-3),
        (-1.0, 0.0),
        (f64::NAN, 0.0),
        (1e-3, -1.0),
        (1e-3, f64::INFINITY),
    ] {
        let bad = Tolerance {
            abs,
            rel,
            max_steps: 10,
        };
        assert!(matches!(
            integrate_adaptive(field, 1.0, 0.0, 1.0, bad),
            Err(SolverError::Setting(_))
        ));
    }
    assert!(integrate_adaptive(field, 1.0, 0.0, f64::NAN, tolerance(1e-3)).is_err());
}
