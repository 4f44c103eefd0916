//! Laws of streaming moments: what they see in parts is what they see at once.

mod common;

use common::normal;
use meanflow_eval::{EvalError, Moments, Statistics};
use meanflow_torch::{Kind, Tensor};
use proptest::prelude::*;

/// `max |a − b|`.
fn difference(a: &Tensor, b: &Tensor) -> f64 {
    (a - b).abs().max().double_value(&[])
}

/// Moments of rows that come in batches of these sizes.
fn in_batches(x: &Tensor, sizes: &[i64]) -> Moments {
    let mut moments = Moments::new(x.size()[1]);
    let mut start = 0;
    for size in sizes {
        moments.update(&x.narrow(0, start, *size)).unwrap();
        start += size;
    }
    assert_eq!(start, x.size()[0]);
    moments
}

fn assert_same(a: &Moments, b: &Moments, scale: f64) {
    let (one, other) = (a.compute().unwrap(), b.compute().unwrap());
    assert_eq!(a.count(), b.count());
    // Rounding of sums of a hundred terms, each with a few units in the last place of 1.
    assert!(difference(one.mean(), other.mean()) < 1e-13 * scale);
    assert!(difference(&one.covariance(), &other.covariance()) < 1e-13 * scale);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// However the rows are cut into batches and shards, and whatever shard comes first.
    #[test]
    fn batches_and_shards_do_not_matter(
        sizes in prop::collection::vec(0_i64..20, 1..8),
        cut in any::<prop::sample::Index>(),
        dims in 1_i64..6,
        seed: u64,
    ) {
        let rows = sizes.iter().sum::<i64>();
        prop_assume!(rows >= 2);
        let x = normal(rows, dims, seed);
        let whole = in_batches(&x, &[rows]);
        assert_same(&in_batches(&x, &sizes), &whole, 10.0);
        let (early, late) = sizes.split_at(cut.index(sizes.len()));
        let middle = early.iter().sum::<i64>();
        let early = in_batches(&x.narrow(0, 0, middle), early);
        let mut merged = in_batches(&x.narrow(0, middle, rows - middle), late);
        merged.merge(&early).unwrap();
        assert_same(&merged, &whole, 10.0);
    }
}

/// The definition, in two passes.
#[test]
fn they_are_mean_and_covariance() {
    let x = normal(200, 5, 1) * Tensor::from_slice(&[1.0, 2.0, 3.0, 4.0, 5.0]) + 7.0;
    let statistics = in_batches(&x, &[3, 150, 47]).compute().unwrap();
    assert!(difference(statistics.mean(), &x.mean_dim(0, false, None::<Kind>)) < 1e-13);
    // torch.cov counts observations along the rows of its transpose, and divides by N − 1.
    assert!(
        difference(
            &statistics.covariance(),
            &x.tr().cov(1, None::<Tensor>, None::<Tensor>)
        ) < 1e-12
    );
}

/// More rows than are widened at a time, more columns than a panel has, and one of them twice: off the diagonal too.
#[test]
fn panels_and_parts_make_the_whole() {
    let x = normal(1500, 600, 3);
    let x = Tensor::cat(&[&x, &x.narrow(1, 0, 1)], 1);
    let found = in_batches(&x, &[1400, 100]).compute().unwrap();
    let expected = x.tr().cov(1, None::<Tensor>, None::<Tensor>);
    // Sums of 1500 products of numbers up to 4, over 1499.
    assert!(difference(&found.covariance(), &expected) < 1e-12);
    assert!(expected.double_value(&[600, 0]) > 0.9);
}

/// Sums of squares would lose eight digits to a mean of 1e8.
#[test]
fn a_large_mean_costs_no_digits() {
    let x = normal(1000, 3, 2);
    let sizes = [10; 100];
    let near = in_batches(&x, &sizes).compute().unwrap();
    let far = in_batches(&(&x + 1e8), &sizes).compute().unwrap();
    // The features themselves are rounded to 1.5e-8.
    assert!(difference(&near.covariance(), &far.covariance()) < 3e-8);
}

#[test]
fn what_is_no_matrix_of_numbers_is_refused_and_changes_nothing() {
    let x = normal(5, 3, 4);
    let mut moments = in_batches(&x, &[5]);
    let hole = x.shallow_clone().copy();
    let _ = hole.get(3).get(1).fill_(f64::NAN);
    assert!(matches!(
        moments.update(&hole),
        Err(EvalError::NotFinite { row: 3, .. })
    ));
    assert!(matches!(
        moments.update(&normal(5, 2, 5)),
        Err(EvalError::Shape { .. })
    ));
    assert!(matches!(
        moments.update(&x.flatten(0, -1)),
        Err(EvalError::Shape { .. })
    ));
    assert!(matches!(
        moments.merge(&Moments::new(2)),
        Err(EvalError::Shape { .. })
    ));
    assert_same(&moments, &in_batches(&x, &[5]), 1.0);
    let one = Statistics::of(&x.narrow(0, 0, 1));
    assert!(matches!(
        one,
        Err(EvalError::TooFew {
            needed: 2,
            got: 1,
            ..
        })
    ));
}
