//! The coefficients of a formula are the formula.

use meanflow_core::combination::coefficients;
use meanflow_core::{Interval, State, jump, target};
use ndarray::Array2;
use proptest::prelude::*;

use crate::cases::{intervals, schedules};

/// A batch of so many samples of three dimensions, each entry another number.
fn batch(rows: usize, seed: f64) -> Array2<f64> {
    Array2::from_shape_fn((rows, 3), |(i, j)| {
        (seed * (1 + i) as f64 + j as f64 * 0.7).sin()
    })
}

fn combined(columns: &[Vec<f64>; 2], x: &Array2<f64>, y: &Array2<f64>) -> Array2<f64> {
    State::combine(&[(&columns[0], x), (&columns[1], y)])
}

proptest! {
    #[test]
    fn the_formulas_of_a_step_are_their_coefficients(
        schedule in schedules(), intervals in prop::collection::vec(intervals(), 1..6), seed in 0.1..3.0,
    ) {
        let rows = intervals.len();
        let (x, y) = (batch(rows, seed), batch(rows, seed + 1.0));
        let times: Vec<f64> = intervals.iter().map(Interval::t).collect();
        let lengths: Vec<f64> = intervals.iter().map(Interval::length).collect();
        // Not only close: a coefficient is 1 · c + 0, and what it multiplies is the same.
        let path = coefficients(rows, |[x, e]| schedule.interpolate(x, e, &times));
        prop_assert_eq!(combined(&path, &x, &y), schedule.interpolate(&x, &y, &times));
        let velocity = coefficients(rows, |[x, e]| schedule.velocity(x, e, &times));
        prop_assert_eq!(combined(&velocity, &x, &y), schedule.velocity(&x, &y, &times));
        let identity = coefficients(rows, |[v, dudt]| target(v, dudt, &lengths));
        prop_assert_eq!(combined(&identity, &x, &y), target(&x, &y, &lengths));
    }

    #[test]
    fn formulas_of_formulas_have_coefficients_too(length in 0.0..1.0, first in 0.0..1.0) {
        // Two jumps with the same velocity are one jump over both lengths.
        let way = |h: f64| [h];
        let [z, u] = coefficients(1, |[z, u]| jump(&jump(z, u, &way(first)), u, &way(length)));
        prop_assert_eq!((z, u), (vec![1.0], vec![-first - length]));
    }
}

#[test]
fn a_formula_may_ignore_a_state() {
    let [x, y] = coefficients(3, |[x, _]| x.scaled(&[1.0, 2.0, 0.0]));
    assert_eq!((x, y), (vec![1.0, 2.0, 0.0], vec![0.0; 3]));
}
