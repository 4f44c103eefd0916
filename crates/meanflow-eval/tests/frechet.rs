//! Laws of the Fréchet distance.

mod common;

use std::path::Path;

use common::normal;
use meanflow_eval::{EvalError, Statistics, frechet_distance};
use meanflow_torch::{Device, Kind, Tensor, weights};
use proptest::prelude::*;

fn distance(a: &Statistics, b: &Statistics) -> f64 {
    frechet_distance(a, b).unwrap()
}

/// Statistics of correlated features: `rows` may be fewer than `dims`, which leaves the covariance without full rank.
fn features(rows: i64, dims: i64, seed: u64) -> Tensor {
    normal(rows, dims, seed).matmul(&normal(dims, dims, seed ^ 0xff))
        + normal(1, dims, seed ^ 0xffff)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn it_is_a_squared_metric(rows in 2_i64..12, dims in 1_i64..8, seed: u64) {
        let [a, b, c] = [1, 2, 3].map(|part| Statistics::of(&features(rows, dims, seed ^ part)).unwrap());
        let scale = distance(&a, &b) + distance(&b, &c) + distance(&a, &c);
        // Rounding of the traces, which are as large as the distances.
        let rounding = 1e-12 * (1.0 + scale + a.covariance().abs().sum(Kind::Double).double_value(&[]));
        prop_assert!(distance(&a, &a) <= rounding);
        prop_assert!((distance(&a, &b) - distance(&b, &a)).abs() <= rounding);
        let longer = distance(&a, &b).sqrt() + distance(&b, &c).sqrt();
        // A distance of zero has a root of the root of the rounding.
        prop_assert!(distance(&a, &c).sqrt() <= longer + rounding.sqrt());
    }

    /// Rotations of the features, and a common shift, change nothing; a scale changes it by its square.
    #[test]
    fn it_does_not_depend_on_coordinates(rows in 2_i64..12, dims in 1_i64..8, seed: u64, scale in 0.1_f64..10.0) {
        let (x, y) = (features(rows, dims, seed), features(rows + 1, dims, seed ^ 1));
        let (rotation, _) = Tensor::linalg_qr(&normal(dims, dims, seed ^ 2), "reduced");
        let moved = |x: &Tensor| x.matmul(&rotation) * scale + 3.0;
        let [before, after] = [[x.copy(), y.copy()], [moved(&x), moved(&y)]]
            .map(|[x, y]| distance(&Statistics::of(&x).unwrap(), &Statistics::of(&y).unwrap()));
        prop_assert!((after - scale * scale * before).abs() <= 1e-9 * (1.0 + scale * scale * before));
    }

    /// Diagonal covariances are normal laws of one dimension each, whose distance everybody knows.
    #[test]
    fn independent_features_add_up(
        spreads in prop::collection::vec((prop::sample::select(vec![0.0, 1e-6, 0.5, 3.0]), 0.0..2.0_f64, -1.0..1.0_f64), 1..6),
    ) {
        let column = |values: Vec<f64>| Tensor::from_slice(&values);
        let one = column(spreads.iter().map(|(a, _, _)| a * a).collect()).diag(0);
        let other = column(spreads.iter().map(|(_, b, _)| b * b).collect()).diag(0);
        let shift = column(spreads.iter().map(|(_, _, shift)| *shift).collect());
        let expected: f64 = spreads.iter().map(|(a, b, shift)| shift * shift + (a - b).powi(2)).sum();
        let (a, b) = (Statistics::new(&shift.zeros_like(), &one), Statistics::new(&shift, &other));
        let found = distance(&a.unwrap(), &b.unwrap());
        prop_assert!((found - expected).abs() < 1e-12 * (1.0 + expected), "{found} {expected}");
    }
}

/// `tr (Σ₁ Σ₂)^½` is the nuclear norm of the product of the scaled, centred features: an oracle without covariances.
#[test]
fn features_without_full_rank_lose_no_digits() {
    for (rows, others, dims) in [(10, 10, 40), (5, 60, 40), (60, 5, 40)] {
        let (x, y) = (features(rows, dims, 1), features(others, dims, 2));
        let centred = |x: &Tensor| {
            (x - x.mean_dim(0, true, None::<Kind>)) / ((x.size()[0] - 1) as f64).sqrt()
        };
        let (a, b) = (centred(&x), centred(&y));
        let traces =
            (a.square().sum(Kind::Double) + b.square().sum(Kind::Double)).double_value(&[]);
        let shift =
            (x.mean_dim(0, false, None::<Kind>) - y.mean_dim(0, false, None::<Kind>)).square();
        let nuclear = a
            .matmul(&b.tr())
            .svd(true, false)
            .1
            .sum(Kind::Double)
            .double_value(&[]);
        let expected = shift.sum(Kind::Double).double_value(&[]) + traces - 2.0 * nuclear;
        let found = distance(&Statistics::of(&x).unwrap(), &Statistics::of(&y).unwrap());
        // Measured: 2e-13. The eigenvalues of the product of the covariances would leave 1e-7.
        assert!(
            (found - expected).abs() < 1e-11 * expected,
            "{found} {expected}"
        );
    }
}

/// Fifty pairs, of every third both or one without full rank, by the formula that the public tools compute with SciPy.
#[test]
fn fifty_pairs_have_the_distances_of_scipy() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/pairs.safetensors");
    let there = weights::read(&path).unwrap();
    let mut worst = 0.0_f64;
    for index in 0..50 {
        let of = |what: &str| &there[&format!("{index}.{what}")];
        let (mean, covariance) = (of("mean"), of("covariance"));
        let law = |place| Statistics::new(&mean.get(place), &covariance.get(place)).unwrap();
        let (found, expected) = (
            distance(&law(0), &law(1)),
            of("distance").double_value(&[0]),
        );
        let traces = [0, 1].map(|place| covariance.get(place).trace().double_value(&[]));
        let error = (found - expected).abs() / (1.0 + expected + traces[0] + traces[1]);
        worst = worst.max(error);
        // The root of a matrix without full rank keeps half of SciPy's digits: of 2e-16 that is 1e-8, times the dimensions.
        assert!(error < 1e-6, "pair {index}: {found}, SciPy {expected}");
    }
    println!("fifty pairs: {worst:.1e} at most");
}

/// Of 30 samples against 20, each of 100,000 features: a covariance alone would take 80 GB.
#[test]
fn few_samples_of_many_features_make_no_covariance() {
    let (x, y) = (normal(30, 100_000, 1), normal(20, 100_000, 2) * 2.0);
    let found = distance(&Statistics::of(&x).unwrap(), &Statistics::of(&y).unwrap());
    // Traces are D and 4 D, of the overlap of independent sets so little is left; means are 0 with variances 1/30 and 4/20 a feature.
    let expected = 100_000.0 * (1.0 + 4.0 + 1.0 / 30.0 + 4.0 / 20.0);
    assert!(
        found < expected && found > 0.9 * expected,
        "{found} {expected}"
    );
    let rows = Statistics::of(&x.narrow(1, 0, 40)).unwrap();
    let whole = Statistics::new(rows.mean(), &rows.covariance()).unwrap();
    // The same samples, kept as rows and as a covariance.
    assert!(
        distance(&rows, &whole)
            < 1e-12 * rows.covariance().sum(Kind::Double).double_value(&[]).abs()
    );
}

#[test]
fn constant_features_are_points() {
    let point =
        |value: f64| Statistics::of(&Tensor::full([3, 2], value, (Kind::Double, Device::Cpu)));
    assert_eq!(distance(&point(1.0).unwrap(), &point(3.0).unwrap()), 8.0);
}

#[test]
fn what_is_no_covariance_is_refused() {
    let matrix = |values: [f64; 4]| Tensor::from_slice(&values).reshape([2, 2]);
    let mean = Tensor::from_slice(&[0.0, 0.0]);
    for (values, expected) in [
        ([1.0, 0.5, 0.4, 1.0], "not symmetric"),
        ([1.0, 0.0, 0.0, -1.0], "negative"),
        ([1.0, f64::NAN, f64::NAN, 1.0], "not finite"),
    ] {
        let error = Statistics::new(&mean, &matrix(values)).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    }
    let indefinite = Statistics::new(&mean, &matrix([1.0, 2.0, 2.0, 1.0])).unwrap();
    let error = frechet_distance(&indefinite, &indefinite).unwrap_err();
    assert!(error.to_string().contains("indefinite"), "{error}");
    let wide = Statistics::of(&normal(5, 3, 1)).unwrap();
    let narrow = Statistics::of(&normal(5, 2, 1)).unwrap();
    assert!(matches!(
        frechet_distance(&wide, &narrow),
        Err(EvalError::Shape { .. })
    ));
    let short = Statistics::new(&mean, &wide.covariance());
    assert!(matches!(short, Err(EvalError::Shape { .. })));
}
