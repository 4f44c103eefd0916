//! Solvers of `dz/dt = v(z, t)` (M6): explicit Runge–Kutta methods, each of them data.

use crate::error::{CoreError, check};
use crate::state::{Norm, State};

/// An explicit Runge–Kutta method, as its Butcher tableau.
///
/// One step from `z` at `t` evaluates the slopes `k_i = v(z + h Σ_j stages[i][j] k_j, t + nodes[i] h)` and goes to
/// `z + h Σ_i weights[i] k_i`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tableau {
    /// Its usual name.
    pub name: &'static str,
    /// The order `p`: on a smooth field the error at a fixed time falls as `hᵖ`.
    pub order: u32,
    /// Where in the step the slopes are taken, in [0, 1].
    pub nodes: &'static [f64],
    /// The slopes that lead to each further slope; row `i` has `i` entries.
    pub stages: &'static [&'static [f64]],
    /// The slopes that lead to the end of the step.
    pub weights: &'static [f64],
}

/// `z_{t'} = z_t + (t' − t) v(z_t, t)` (M7). Order 1, one evaluation a step.
pub const EULER: Tableau = Tableau {
    name: "euler",
    order: 1,
    nodes: &[0.0],
    stages: &[&[]],
    weights: &[1.0],
};

/// Heun's method, the explicit trapezoidal rule. Order 2, two evaluations a step.
pub const HEUN: Tableau = Tableau {
    name: "heun",
    order: 2,
    nodes: &[0.0, 1.0],
    stages: &[&[], &[1.0]],
    weights: &[0.5, 0.5],
};

/// The classical method of Kutta. Order 4, four evaluations a step.
pub const RK4: Tableau = Tableau {
    name: "rk4",
    order: 4,
    nodes: &[0.0, 0.5, 0.5, 1.0],
    stages: &[&[], &[0.5], &[0.0, 0.5], &[0.0, 0.0, 1.0]],
    weights: &[1.0 / 6.0, 1.0 / 3.0, 1.0 / 3.0, 1.0 / 6.0],
};

/// The fifth-order method of Dormand and Prince (1980). Order 5, seven evaluations a step.
///
/// Its last slope is the first of the next step, which [`integrate_adaptive`] uses: six evaluations a step.
pub const DORMAND_PRINCE: Tableau = Tableau {
    name: "dormand-prince",
    order: 5,
    nodes: &[0.0, 0.2, 0.3, 0.8, 8.0 / 9.0, 1.0, 1.0],
    stages: &[
        &[],
        &[0.2],
        &[3.0 / 40.0, 9.0 / 40.0],
        &[44.0 / 45.0, -56.0 / 15.0, 32.0 / 9.0],
        &[
            19372.0 / 6561.0,
            -25360.0 / 2187.0,
            64448.0 / 6561.0,
            -212.0 / 729.0,
        ],
        &[
            9017.0 / 3168.0,
            -355.0 / 33.0,
            46732.0 / 5247.0,
            49.0 / 176.0,
            -5103.0 / 18656.0,
        ],
        DORMAND_PRINCE_WEIGHTS.split_at(6).0,
    ],
    weights: DORMAND_PRINCE_WEIGHTS,
};

const DORMAND_PRINCE_WEIGHTS: &[f64] = &[
    35.0 / 384.0,
    0.0,
    500.0 / 1113.0,
    125.0 / 192.0,
    -2187.0 / 6784.0,
    11.0 / 84.0,
    0.0,
];

/// Weights of the error estimate of [`DORMAND_PRINCE`]: the fifth-order weights less the embedded fourth-order ones.
const DORMAND_PRINCE_ERROR: &[f64] = &[
    35.0 / 384.0 - 5179.0 / 57600.0,
    0.0,
    500.0 / 1113.0 - 7571.0 / 16695.0,
    125.0 / 192.0 - 393.0 / 640.0,
    -2187.0 / 6784.0 + 92097.0 / 339200.0,
    11.0 / 84.0 - 187.0 / 2100.0,
    -1.0 / 40.0,
];

/// Carries `start` from the first time of the grid to the last, one step between neighbours.
///
/// The grid may rise or fall: sampling runs from 1 to 0. With a grid of a single time, or none, nothing happens.
///
/// ```
/// use meanflow_core::solver::{HEUN, integrate};
///
/// // dz/dt = z from t = 1 back to 0 in a hundred steps.
/// let grid: Vec<f64> = (0..=100).map(|i| 1.0 - f64::from(i) / 100.0).collect();
/// let z = integrate(&HEUN, |z: &f64, _| *z, 1.0, &grid);
/// assert!((z - (-1f64).exp()).abs() < 1e-5);
/// ```
pub fn integrate<S: State>(
    method: &Tableau,
    mut field: impl FnMut(&S, f64) -> S,
    start: S,
    grid: &[f64],
) -> S {
    grid.windows(2).fold(start, |z, step| {
        let first = field(&z, step[0]);
        let slopes = slopes(method, &mut field, &z, first, step[0], step[1]);
        advance(&z, step[1] - step[0], method.weights, &slopes)
    })
}

/// How exact an adaptive solution is to be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tolerance {
    /// Error allowed per step, in units of the state.
    pub abs: f64,
    /// Error allowed per step, as a share of the size of the state.
    pub rel: f64,
    /// Steps to try at most, rejected ones included.
    pub max_steps: usize,
}

/// The end of an adaptive solution, and what it took.
#[derive(Clone, Debug, PartialEq)]
pub struct Solution<S> {
    /// The state at the last time.
    pub state: S,
    /// Steps taken.
    pub steps: usize,
    /// Steps tried and thrown away.
    pub rejected: usize,
    /// Evaluations of the field.
    pub evaluations: usize,
}

/// Why an adaptive solution was not found.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SolverError {
    /// A tolerance or a time is no usable number.
    #[error(transparent)]
    Setting(#[from] CoreError),
    /// The end was not reached in the steps allowed.
    #[error("expected to reach t = {to} within {max_steps} steps, got to t = {time}")]
    TooManySteps {
        /// The steps allowed.
        max_steps: usize,
        /// The time reached.
        time: f64,
        /// The time asked for.
        to: f64,
    },
    /// No step is small enough: the field is not finite or not smooth there.
    #[error(
        "no step from t = {time} meets the tolerance: the field is singular or not finite there"
    )]
    NoStep {
        /// The time reached.
        time: f64,
    },
}

/// Carries `start` from one time to another, either way, by Dormand–Prince 5(4) with steps as long as the tolerance allows.
///
/// A step is taken when in every sample the root mean square of the estimated error is at most `abs + rel · size`,
/// where size is the larger root mean square of the sample before and after the step: one sample is as exact alone as in
/// a batch. The number of steps grows as `tolerance^(−1/5)`.
///
/// # Errors
/// See [`SolverError`].
pub fn integrate_adaptive<S: Norm>(
    mut field: impl FnMut(&S, f64) -> S,
    start: S,
    from: f64,
    to: f64,
    tolerance: Tolerance,
) -> Result<Solution<S>, SolverError> {
    tolerance.validate()?;
    for time in [from, to] {
        check("time", "a finite number", time, time.is_finite())?;
    }
    // A shorter step would be a rounding error of the time.
    let shortest = 16.0 * f64::EPSILON * from.abs().max(to.abs());
    let mut slope = field(&start, from);
    let (mut time, mut length) = (from, first_length(&start, &slope, to - from, tolerance));
    let mut solution = Solution {
        state: start,
        steps: 0,
        rejected: 0,
        evaluations: 1,
    };
    while time != to {
        if solution.steps + solution.rejected == tolerance.max_steps {
            let max_steps = tolerance.max_steps;
            return Err(SolverError::TooManySteps {
                max_steps,
                time,
                to,
            });
        }
        let last = length.abs() >= (to - time).abs();
        let end = if last { to } else { time + length };
        if !last && length.abs() < shortest {
            return Err(SolverError::NoStep { time });
        }
        let trial = Trial::new(
            &mut field,
            &solution.state,
            slope.clone(),
            (time, end),
            tolerance,
        );
        solution.evaluations += DORMAND_PRINCE.weights.len() - 1;
        length = (end - time) * trial.growth();
        if trial.error <= 1.0 {
            (solution.state, slope, time) = (trial.state, trial.slope, end);
            solution.steps += 1;
        } else {
            solution.rejected += 1;
        }
    }
    Ok(solution)
}

/// A step that may be taken or not.
struct Trial<S> {
    state: S,
    /// The slope at the end of the step.
    slope: S,
    /// The estimated error in units of the tolerance; infinite if anything is not finite.
    error: f64,
}

impl<S: Norm> Trial<S> {
    fn new(
        field: &mut impl FnMut(&S, f64) -> S,
        start: &S,
        slope: S,
        (from, to): (f64, f64),
        tolerance: Tolerance,
    ) -> Self {
        let mut slopes = slopes(&DORMAND_PRINCE, field, start, slope, from, to);
        let state = advance(start, to - from, DORMAND_PRINCE.weights, &slopes);
        let estimate = S::uniform(&weighted(to - from, DORMAND_PRINCE_ERROR, &slopes));
        let error = tolerance.error(&estimate, &[start, &state]);
        let slope = slopes.pop().expect("a method has slopes");
        Self {
            state,
            slope,
            error,
        }
    }

    /// The factor on the length of the next step: the error of a step grows as its length to the fifth power.
    fn growth(&self) -> f64 {
        let exponent = -1.0 / f64::from(DORMAND_PRINCE.order);
        // Aiming below the tolerance saves rejected steps. The estimate may vanish by accident, above all where the field
        // starts at rest, so a step at most doubles.
        let aim = 0.9 * self.error.powf(exponent);
        aim.clamp(0.2, if self.error <= 1.0 { 2.0 } else { 1.0 })
    }
}

impl Tolerance {
    fn validate(&self) -> Result<(), CoreError> {
        let Self { abs, rel, .. } = *self;
        check(
            "tolerance.abs",
            "a finite number > 0",
            abs,
            abs.is_finite() && abs > 0.0,
        )?;
        check(
            "tolerance.rel",
            "a finite number ≥ 0",
            rel,
            rel.is_finite() && rel >= 0.0,
        )
    }

    /// The largest size of any sample of `error`, in units of what is allowed for `states`.
    fn error<S: Norm>(&self, error: &S, states: &[&S]) -> f64 {
        let sizes: Vec<Vec<f64>> = states.iter().map(|z| z.mean_squares()).collect();
        let allowed = |row: usize| {
            let size = sizes.iter().map(|s| s[row].sqrt()).fold(0.0, larger);
            self.abs + self.rel * size
        };
        let errors = error.mean_squares();
        (0..errors.len())
            .map(|row| errors[row].sqrt() / allowed(row))
            .fold(0.0, larger)
    }
}

/// The larger number; infinite if either is NaN: a state that is no number is wrong without bound.
fn larger(x: f64, y: f64) -> f64 {
    if x.is_nan() || y.is_nan() {
        f64::INFINITY
    } else {
        x.max(y)
    }
}

/// A first step that moves no sample by more than a hundredth of its size (Hairer, Nørsett and Wanner, section II.4).
fn first_length<S: Norm>(start: &S, slope: &S, span: f64, tolerance: Tolerance) -> f64 {
    let (size, speed) = (
        tolerance.error(start, &[start]),
        tolerance.error(slope, &[start]),
    );
    let ratio = 0.01 * size / speed;
    let length = if ratio.is_finite() && ratio > 0.0 {
        ratio
    } else {
        1e-3 * span.abs()
    };
    length.min(span.abs()).copysign(span)
}

/// All slopes of a step from `from` to `to`, the first being known.
fn slopes<S: State>(
    method: &Tableau,
    field: &mut impl FnMut(&S, f64) -> S,
    start: &S,
    first: S,
    from: f64,
    to: f64,
) -> Vec<S> {
    let mut slopes = Vec::with_capacity(method.nodes.len());
    slopes.push(first);
    for (node, stage) in method.nodes.iter().zip(method.stages).skip(1) {
        let state = advance(start, to - from, stage, &slopes);
        // Written so that a node of 1 is exactly the end, and no time leaves the step.
        slopes.push(field(&state, (1.0 - node) * from + node * to));
    }
    slopes
}

/// `z + h Σ_i w_i k_i`.
fn advance<S: State>(start: &S, length: f64, weights: &[f64], slopes: &[S]) -> S {
    let mut terms = vec![(1.0, start)];
    terms.extend(weighted(length, weights, slopes));
    S::uniform(&terms)
}

/// The terms of `h Σ_i w_i k_i`, without those of weight 0.
fn weighted<'a, S>(length: f64, weights: &[f64], slopes: &'a [S]) -> Vec<(f64, &'a S)> {
    let terms = weights.iter().zip(slopes);
    terms
        .filter(|(weight, _)| **weight != 0.0)
        .map(|(weight, slope)| (length * weight, slope))
        .collect()
}
