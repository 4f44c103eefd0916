//! Dormand–Prince with error control.

use super::{DORMAND_PRINCE, advance, slopes, weighted};
use crate::error::{CoreError, finite, not_negative, positive};
use crate::state::Norm;

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
    pub nfe: usize,
}

/// Why an adaptive solution was not found.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SolverError {
    /// A tolerance or a time is no usable number.
    #[error(transparent)]
    Setting(#[from] CoreError),
    /// The end was not reached in the steps allowed.
    #[error("the steps allowed end at t = {time}: expected to reach t = {to}")]
    TooManySteps {
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
        finite("time", time)?;
    }
    // A shorter step would be a rounding error of the time.
    let shortest = 16.0 * f64::EPSILON * from.abs().max(to.abs());
    let mut slope = field(&start, from);
    let (mut time, mut length) = (from, first_length(&start, &slope, to - from, tolerance));
    let mut solution = Solution {
        state: start,
        steps: 0,
        rejected: 0,
        nfe: 1,
    };
    while time != to {
        if solution.steps + solution.rejected == tolerance.max_steps {
            return Err(SolverError::TooManySteps { time, to });
        }
        let end = if length.abs() >= (to - time).abs() {
            to
        } else if length.abs() < shortest {
            return Err(SolverError::NoStep { time });
        } else {
            time + length
        };
        let step = (time, end);
        let trial = Trial::new(&mut field, &solution.state, &slope, step, tolerance);
        solution.nfe += DORMAND_PRINCE.weights.len() - 1;
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
        slope: &S,
        (from, to): (f64, f64),
        tolerance: Tolerance,
    ) -> Self {
        let mut slopes = slopes(&DORMAND_PRINCE, field, start, slope.clone(), from, to);
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
        positive("tolerance.abs", self.abs)?;
        not_negative("tolerance.rel", self.rel)
    }

    /// The largest size of any sample of `error`, in units of what is allowed for `states`.
    fn error<S: Norm>(&self, error: &S, states: &[&S]) -> f64 {
        let sizes: Vec<Vec<f64>> = states.iter().map(|z| z.mean_squares()).collect();
        let allowed = |row: usize| {
            let size = sizes.iter().map(|s| s[row].sqrt()).fold(0.0, larger);
            self.abs + self.rel * size
        };
        let errors = error.mean_squares().into_iter().enumerate();
        let shares = errors.map(|(row, error)| error.sqrt() / allowed(row));
        shares.fold(0.0, larger)
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
    let [size, speed] = [start, slope].map(|state| tolerance.error(state, &[start]));
    let ratio = 0.01 * size / speed;
    let usable = ratio.is_finite() && ratio > 0.0;
    let length = if usable { ratio } else { 1e-3 * span.abs() };
    length.min(span.abs()).copysign(span)
}

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
