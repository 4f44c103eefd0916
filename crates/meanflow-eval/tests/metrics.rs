//! Laws of the metrics that need the samples themselves.

mod common;

use common::normal;
use meanflow_eval::{
    EvalError, KernelSubsets, ScoreSums, Spread, inception_score, kernel_distance,
    kernel_distance_of, nearest, precision_recall,
};
use meanflow_torch::{Kind, Tensor};
use proptest::prelude::*;

const SUBSETS: KernelSubsets = KernelSubsets {
    subsets: 5,
    size: 20,
    seed: 1,
};

fn rows(x: &Tensor) -> Vec<Vec<f64>> {
    Vec::<Vec<f64>>::try_from(x).unwrap()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn apart(a: &[f64], b: &[f64]) -> f64 {
    a.iter()
        .zip(b)
        .map(|(a, b)| (a - b).powi(2))
        .sum::<f64>()
        .sqrt()
}

/// The estimate as its definition has it, pair by pair.
fn slow_kernel_distance(x: &[Vec<f64>], y: &[Vec<f64>]) -> f64 {
    let (m, dims) = (x.len(), x[0].len() as f64);
    let kernel = |a: &[f64], b: &[f64]| (dot(a, b) / dims + 1.0).powi(3);
    let (mut within, mut between) = (0.0, 0.0);
    for i in 0..m {
        for j in 0..m {
            if i != j {
                within += kernel(&x[i], &x[j]) + kernel(&y[i], &y[j]);
            }
            between += kernel(&x[i], &y[j]);
        }
    }
    within / (m * (m - 1)) as f64 - 2.0 * between / (m * m) as f64
}

/// Precision as its definition has it: the share of `x` in a ball of `y`.
fn slow_precision(x: &[Vec<f64>], y: &[Vec<f64>], k: usize) -> f64 {
    let radius = |center: usize| {
        let others = (0..y.len()).filter(|other| *other != center);
        let mut distances: Vec<f64> = others.map(|other| apart(&y[center], &y[other])).collect();
        distances.sort_by(f64::total_cmp);
        distances[k - 1]
    };
    let radii: Vec<f64> = (0..y.len()).map(radius).collect();
    let inside = |point: &&Vec<f64>| (0..y.len()).any(|i| apart(point, &y[i]) <= radii[i]);
    x.iter().filter(inside).count() as f64 / x.len() as f64
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn kernel_distance_is_its_definition(m in 2_i64..12, extra in 0_i64..3, dims in 1_i64..6, seed: u64) {
        let (x, y) = (normal(m, dims, seed), normal(m + extra, dims, seed ^ 1) + 0.5);
        let found = kernel_distance_of(&x, &y).unwrap();
        let expected = slow_kernel_distance(&rows(&x), &rows(&y));
        // Sums of up to 144 kernels of cubes.
        prop_assert!((found - expected).abs() < 1e-10 * (1.0 + expected.abs()), "{found} {expected}");
    }

    #[test]
    fn precision_and_recall_are_their_definition(
        n in 5_i64..15, m in 5_i64..15, dims in 1_i64..4, k in 1_u64..5, seed: u64,
    ) {
        let (x, y) = (normal(n, dims, seed), normal(m, dims, seed ^ 1) + 1.0);
        let found = precision_recall(&x, &y, k).unwrap();
        let (x, y) = (rows(&x), rows(&y));
        prop_assert_eq!(found.precision, slow_precision(&x, &y, k as usize));
        prop_assert_eq!(found.recall, slow_precision(&y, &x, k as usize));
    }

    #[test]
    fn nearest_neighbours_are_the_nearest(n in 1_i64..8, m in 4_i64..12, k in 1_u64..5, seed: u64) {
        let (x, y) = (normal(n, 3, seed), normal(m, 3, seed ^ 1));
        let found = nearest(&x, &y, k).unwrap();
        let (x, y) = (rows(&x), rows(&y));
        for (query, (indices, distances)) in x.iter().zip(found.indices.iter().zip(&found.distances)) {
            let mut order: Vec<usize> = (0..y.len()).collect();
            order.sort_by(|a, b| apart(query, &y[*a]).total_cmp(&apart(query, &y[*b])));
            for (place, index) in indices.iter().enumerate() {
                prop_assert_eq!(*index as usize, order[place]);
                prop_assert!((distances[place] - apart(query, &y[order[place]])).abs() < 1e-12);
            }
        }
    }

    /// Between one and the number of classes, and the same when logits are shifted.
    #[test]
    fn inception_score_has_bounds(n in 1_i64..40, classes in 1_i64..8, splits in 1_u64..5, scale in 0.0..50.0_f64, seed: u64) {
        prop_assume!(splits <= n as u64);
        let logits = normal(n, classes, seed) * scale;
        let score = inception_score(&logits, splits).unwrap();
        prop_assert!(score.values.iter().all(|s| *s > 1.0 - 1e-12 && *s < classes as f64 + 1e-9), "{score:?}");
        let shifted = inception_score(&(&logits + normal(n, 1, seed ^ 1)), splits).unwrap();
        prop_assert!((shifted.mean - score.mean).abs() < 1e-9);
    }

    /// The definition, part by part; and the same sums in batches and shards, whichever comes first.
    #[test]
    fn inception_score_is_its_definition_in_any_batches(
        n in 1_i64..60, splits in 1_i64..6, cut in any::<prop::sample::Index>(), batch in 1_i64..9, seed: u64,
    ) {
        prop_assume!(splits <= n);
        let logits = normal(n, 5, seed) * 3.0;
        let score = inception_score(&logits, splits as u64).unwrap();
        let near = |a: f64, b: f64| (a - b).abs() < 1e-12 * b; // sums of some hundred terms of one size
        for (part, value) in (0..splits).zip(&score.values) {
            let (start, end) = (part * n / splits, (part + 1) * n / splits);
            prop_assert!(near(*value, divergence(&logits.narrow(0, start, end - start)).exp()));
        }
        let shard = |from: i64, to: i64| {
            let mut sums = ScoreSums::new(n as u64, splits as u64, 5).unwrap();
            for start in (from..to).step_by(batch as usize) {
                sums.update(start as u64, &logits.narrow(0, start, batch.min(to - start))).unwrap();
            }
            sums
        };
        let cut = cut.index(n as usize) as i64;
        let (early, mut sums) = (shard(0, cut), shard(cut, n));
        prop_assert!(cut == 0 || sums.compute().is_err(), "a part of the samples has no score");
        sums.merge(&early).unwrap();
        for (a, b) in sums.compute().unwrap().values.iter().zip(&score.values) {
            prop_assert!(near(*a, *b));
        }
        prop_assert!(sums.update(n as u64, &logits.narrow(0, 0, 1)).is_err());
    }
}

/// The mean divergence of the rows' probabilities from their mean.
fn divergence(logits: &Tensor) -> f64 {
    let p = logits.softmax(1, Kind::Double);
    let mean = p.mean_dim(0, true, None::<Kind>);
    let rows = (&p * (&p / mean).log()).sum_dim_intlist(1, false, None::<Kind>);
    rows.mean(Kind::Double).double_value(&[])
}

/// Sure about each of `K` equally frequent classes: `K`. No idea: 1.
#[test]
fn inception_score_at_its_ends() {
    let sure = Tensor::eye(4, (Kind::Double, tch::Device::Cpu)).repeat([5, 1]) * 1e4;
    assert!((inception_score(&sure, 1).unwrap().mean - 4.0).abs() < 1e-12);
    let none = inception_score(&(sure * 0.0), 5).unwrap();
    let one = |spread: &Spread| (spread.mean - 1.0).abs() < 1e-15 && spread.std < 1e-15;
    assert!(one(&none) && none.values.len() == 5, "{none:?}");
}

#[test]
fn samples_of_one_law_are_at_no_kernel_distance_and_cover_each_other() {
    let (x, y) = (normal(400, 4, 1), normal(400, 4, 2));
    let subsets = KernelSubsets {
        subsets: 20,
        size: 200,
        ..SUBSETS
    };
    let same = kernel_distance(&x, &y, &subsets).unwrap();
    let moved = kernel_distance(&(&x + 0.5), &y, &subsets).unwrap();
    // An unbiased estimate strays around zero by its spread.
    assert!(
        same.mean.abs() < same.std && moved.mean > 5.0 * moved.std,
        "{same:?} {moved:?}"
    );
    let covered = precision_recall(&x, &y, 3).unwrap();
    assert!(covered.f_score() > 0.8, "{covered:?}");
    // All samples at one point of the data: real, and no part of the variety.
    let collapsed = y.narrow(0, 7, 1).repeat([50, 1]);
    let score = precision_recall(&collapsed, &y, 3).unwrap();
    assert_eq!((score.precision, score.recall), (1.0, 1.0 / 400.0));
}

#[test]
fn subsets_depend_on_the_seed_alone() {
    let (x, y) = (normal(50, 3, 1), normal(40, 3, 2));
    let spread = kernel_distance(&x, &y, &SUBSETS).unwrap();
    assert_eq!(kernel_distance(&x, &y, &SUBSETS).unwrap(), spread);
    let longer = KernelSubsets {
        subsets: 7,
        ..SUBSETS
    };
    assert_eq!(
        kernel_distance(&x, &y, &longer).unwrap().values[..5],
        spread.values
    );
    let other = KernelSubsets { seed: 2, ..SUBSETS };
    assert_ne!(kernel_distance(&x, &y, &other).unwrap(), spread);
}

/// Copies are at distance zero, not at that of the rounding.
#[test]
fn copies_are_found() {
    let base = normal(30, 64, 1) * 100.0;
    let found = nearest(&base, &base, 1).unwrap();
    for (index, (indices, distances)) in found.indices.iter().zip(&found.distances).enumerate() {
        assert_eq!((indices[0], distances[0]), (index as i64, 0.0));
    }
}

#[test]
fn too_few_samples_are_refused() {
    let (x, y) = (normal(5, 3, 1), normal(4, 3, 2));
    let few = |needed, got| move |error: EvalError| matches!(error, EvalError::TooFew { needed: n, got: g, .. } if (n, g) == (needed, got));
    assert!(kernel_distance(&x, &y, &SUBSETS).is_err_and(few(20, 5)));
    assert!(kernel_distance(&x, &y, &KernelSubsets { size: 1, ..SUBSETS }).is_err_and(few(2, 1)));
    assert!(
        kernel_distance(
            &x,
            &y,
            &KernelSubsets {
                subsets: 0,
                ..SUBSETS
            }
        )
        .is_err_and(few(1, 0))
    );
    assert!(kernel_distance_of(&x.narrow(0, 0, 1), &y).is_err_and(few(2, 1)));
    assert!(precision_recall(&x, &y, 4).is_err_and(few(5, 4)));
    assert!(precision_recall(&x, &y, 0).is_err_and(few(1, 0)));
    assert!(nearest(&x, &y, 5).is_err_and(few(5, 4)));
    assert!(inception_score(&x, 6).is_err_and(few(6, 5)));
    assert!(inception_score(&x, 0).is_err_and(few(1, 0)));
    let narrow = normal(4, 2, 1);
    assert!(matches!(
        kernel_distance_of(&x, &narrow),
        Err(EvalError::Shape { .. })
    ));
}
