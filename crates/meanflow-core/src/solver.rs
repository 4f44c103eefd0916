//! Solvers of `dz/dt = v(z, t)` (M6): explicit Runge–Kutta methods, each of them data.

mod adaptive;

pub use adaptive::{Solution, SolverError, Tolerance, integrate_adaptive};

use crate::state::State;

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
