//! `State` is a vector space, sample by sample, whatever the type.

use meanflow_core::{Norm, State};
use ndarray::{Array1, Array3, ArrayD, Axis, IxDyn, array};
use num_dual::Dual64;
use proptest::prelude::*;

/// A batch of `rows` samples of shape [2, 3], each entry another number.
fn batch(rows: usize, seed: f64) -> Array3<f64> {
    Array3::from_shape_fn((rows, 2, 3), |(i, j, k)| {
        (seed * (1 + i) as f64 + j as f64 * 0.7 + k as f64 * 1.3).sin()
    })
}

proptest! {
    #[test]
    fn a_batch_is_combined_row_by_row(rows in 1usize..5, seed in 0.1..3.0, c in -3.0..3.0) {
        let (x, y) = (batch(rows, seed), batch(rows, seed + 1.0));
        let cx: Vec<f64> = (0..rows).map(|i| c + i as f64).collect();
        let cy: Vec<f64> = (0..rows).map(|i| c * i as f64).collect();
        let sum = State::combine(&[(&cx, &x), (&cy, &y)]);
        for ((index, &z), (x, y)) in sum.indexed_iter().zip(x.iter().zip(&y)) {
            // The numbers of one entry, alone: the same two products and one sum, so the same bits.
            prop_assert_eq!(z, f64::combine(&[(&[cx[index.0]], x), (&[cy[index.0]], y)]));
        }
    }

    #[test]
    fn provided_operations_are_combinations(rows in 1usize..5, seed in 0.1..3.0, c in -3.0..3.0) {
        let (x, y) = (batch(rows, seed), batch(rows, seed + 1.0));
        let same = vec![c; rows];
        prop_assert_eq!(x.scaled(&same), &x * c);
        prop_assert_eq!(State::uniform(&[(c, &x), (1.0, &y)]), State::combine(&[(&same, &x), (&vec![1.0; rows], &y)]));
    }

    #[test]
    fn the_norm_is_per_sample(rows in 1usize..5, seed in 0.1..3.0) {
        let x = batch(rows, seed);
        let norms = x.mean_squares();
        prop_assert_eq!(norms.len(), State::rows(&x));
        for (row, norm) in x.axis_iter(Axis(0)).zip(norms) {
            // A mean of six numbers of order 1, summed in another order.
            prop_assert!((row.mapv(|v| v * v).mean().unwrap() - norm).abs() < 1e-15);
        }
    }
}

#[test]
fn one_dimension_and_dynamic_dimensions_are_states_too() {
    let x: Array1<f64> = array![1.0, 2.0, 3.0];
    assert_eq!(x.scaled(&[2.0, 0.0, -1.0]), array![2.0, 0.0, -3.0]);
    let y = ArrayD::from_elem(IxDyn(&[2, 2]), 1.0);
    assert_eq!(
        y.scaled(&[3.0, 4.0]).into_raw_vec_and_offset().0,
        [3.0, 3.0, 4.0, 4.0]
    );
}

#[test]
fn transposed_memory_changes_nothing() {
    let x = array![[1.0, 2.0], [3.0, 4.0]];
    let transposed = x.clone().reversed_axes();
    assert_eq!(
        transposed.scaled(&[1.0, 10.0]),
        array![[1.0, 3.0], [20.0, 40.0]]
    );
}

#[test]
fn dual_numbers_carry_their_derivative() {
    let (x, y) = (Dual64::new(2.0, 1.0), Dual64::new(3.0, -1.0));
    let sum = State::combine(&[(&[2.0], &x), (&[10.0], &y)]);
    assert_eq!((sum.re, sum.eps), (34.0, -8.0));
    assert_eq!(Dual64::new(3.0, 4.0).mean_squares(), [25.0]);
}

#[test]
#[should_panic(expected = "one coefficient per sample")]
fn a_missing_coefficient_is_refused() {
    let _ = batch(3, 1.0).scaled(&[1.0, 2.0]);
}

#[test]
#[should_panic(expected = "states of one shape")]
fn a_broadcastable_shape_is_refused() {
    let (x, y) = (array![[1.0, 2.0], [3.0, 4.0]], array![[1.0], [3.0]]);
    let _ = State::uniform(&[(1.0, &x), (1.0, &y)]);
}
