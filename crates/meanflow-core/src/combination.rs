//! What a formula does with its states, without any state: its coefficients.

use std::array;

use crate::state::State;

/// `Σ_j c_j · X_j` of `N` states that are not there: only the coefficients, `[B]` each.
#[derive(Clone, Debug, PartialEq)]
pub struct Combination<const N: usize>([Vec<f64>; N]);

/// The coefficients that `formula` gives its `N` states of `rows` samples, `[B]` each.
///
/// Every formula over [`State`] is linear in its states, so this is all of it: computed on one machine, it can be
/// applied on another, where the states are.
///
/// ```
/// use meanflow_core::{Schedule, combination};
///
/// let times = [0.25, 1.0];
/// let [a, b] = combination::coefficients(2, |[x, e]| Schedule::Linear.interpolate(x, e, &times));
/// assert_eq!((a, b), (vec![0.75, 0.0], vec![0.25, 1.0]));
/// ```
pub fn coefficients<const N: usize>(
    rows: usize,
    formula: impl FnOnce([&Combination<N>; N]) -> Combination<N>,
) -> [Vec<f64>; N] {
    let states: [Combination<N>; N] = array::from_fn(|j| {
        let alone = |k| vec![if j == k { 1.0 } else { 0.0 }; rows];
        Combination(array::from_fn(alone))
    });
    formula(array::from_fn(|j| &states[j])).0
}

impl<const N: usize> State for Combination<N> {
    fn rows(&self) -> usize {
        self.0.first().map_or(0, Vec::len)
    }

    fn combine(terms: &[(&[f64], &Self)]) -> Self {
        assert!(!terms.is_empty(), "a combination has a term");
        let of_state = |j: usize| {
            let row = |i: usize| terms.iter().map(|(c, x)| c[i] * x.0[j][i]).sum();
            (0..terms[0].1.rows()).map(row).collect()
        };
        Self(array::from_fn(of_state))
    }
}
