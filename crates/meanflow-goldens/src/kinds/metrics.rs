//! Golden files of metrics: what public implementations computed, against what we compute of the same features.
//!
//! A set of features is a pair `SET/x` (generated) and `SET/y` (real), both `[N, D]`; logits are `SET/logits`, `[N, K]`.
//! The name of a result says what it is: `frechet_…` whatever follows, `precision_k3`, `mean_splits5`.

use meanflow_eval::{
    EvalError, Statistics, frechet_distance, inception_score, kernel_distance_of, precision_recall,
};
use meanflow_torch::TorchError;
use tch::{Kind, Tensor};

use crate::{Computed, GoldenFile, Report, Setting, Tolerance};

// The largest differences between public implementations on such features, with a margin of about ten.
const FRECHET: Tolerance = Tolerance::new(f64::INFINITY, 1e-9);
/// Eigenvalues of a product of covariances without full rank, as the public implementations take them, have half the digits.
const FRECHET_DEFICIENT: Tolerance = Tolerance::new(f64::INFINITY, 5e-6);
const MOMENT: Tolerance = Tolerance::new(f64::INFINITY, 1e-10);
const MEAN: Tolerance = Tolerance::new(f64::INFINITY, 1e-10);
/// The reference averages hits in f32.
const SHARE: Tolerance = Tolerance::new(f64::INFINITY, 1e-6);

/// Computes every result of every set, in f64 on the CPU whatever the setting says.
pub(super) fn check(file: &GoldenFile, _: &Setting) -> Result<Report, TorchError> {
    let mut results = Vec::new();
    for name in file.below("") {
        if let Some(set) = name.strip_suffix("/x") {
            results.extend(of_features(file, set).map_err(|error| named(file, set, error))?);
        }
        if let Some(set) = name.strip_suffix("/logits") {
            results.extend(of_logits(file, set).map_err(|error| named(file, set, error))?);
        }
    }
    file.report(&results, Vec::new(), is_result)
}

fn is_result(name: &str) -> bool {
    let inputs = [
        "/x",
        "/y",
        "/logits",
        "/kid_subset_idx_x",
        "/kid_subset_idx_y",
    ];
    !inputs.iter().any(|input| name.ends_with(input))
}

fn named(file: &GoldenFile, set: &str, error: EvalError) -> TorchError {
    match error {
        EvalError::Torch(error) => error,
        error => file.problem(format!("{set}: {error}")),
    }
}

fn of_features(file: &GoldenFile, set: &str) -> Result<Vec<Computed>, EvalError> {
    let [x, y] = [format!("{set}/x"), format!("{set}/y")].map(|name| file.require(&name));
    let (x, y) = (x?, y?);
    let (a, b) = (Statistics::of(x)?, Statistics::of(y)?);
    let mut results = Vec::new();
    let mut add = |name: &str, value: Tensor, tolerance| {
        results.push(Computed::new(format!("{set}/{name}"), value, tolerance));
    };
    for (side, statistics) in [("x", &a), ("y", &b)] {
        add(&format!("mu_{side}"), statistics.mean().copy(), MOMENT);
        add(&format!("sigma_{side}"), statistics.covariance(), MOMENT);
    }
    let distance = frechet_distance(&a, &b)?;
    let full = x.size()[0].min(y.size()[0]) > a.dims();
    let tolerance = if full { FRECHET } else { FRECHET_DEFICIENT };
    for name in below(file, set, "frechet_") {
        add(&name, scalar(distance), tolerance);
    }
    add("kid_unbiased_full", scalar(kernel_distance_of(x, y)?), MEAN);
    add_subsets(file, set, [x, y], &mut add)?;
    for name in below(file, set, "precision_k") {
        let Some(k) = number(&name) else { continue };
        let score = precision_recall(x, y, k)?;
        add(&format!("precision_k{k}"), scalar(score.precision), SHARE);
        add(&format!("recall_k{k}"), scalar(score.recall), SHARE);
        add(&format!("f_score_k{k}"), scalar(score.f_score()), SHARE);
    }
    Ok(results)
}

/// The kernel distances of subsets that the file names, one subset a row.
fn add_subsets(
    file: &GoldenFile,
    set: &str,
    features: [&Tensor; 2],
    add: &mut impl FnMut(&str, Tensor, Tolerance),
) -> Result<(), EvalError> {
    let indices = ["x", "y"].map(|side| file.get(&format!("{set}/kid_subset_idx_{side}")));
    let [Some(of_x), Some(of_y)] = indices else {
        return Ok(());
    };
    let rows = |features: &Tensor, indices: &Tensor, subset: i64| {
        let row = indices
            .f_get(subset)
            .and_then(|row| features.f_index_select(0, &row));
        row.map_err(|error| EvalError::Torch(file.problem(format!("{set}: subsets: {error}"))))
    };
    let count = of_x.size().first().copied().unwrap_or(0);
    let mut values = Vec::new();
    for subset in 0..count {
        let (x, y) = (
            rows(features[0], of_x, subset)?,
            rows(features[1], of_y, subset)?,
        );
        values.push(kernel_distance_of(&x, &y)?);
    }
    add("kid_subset_values", Tensor::from_slice(&values), MEAN);
    Ok(())
}

fn of_logits(file: &GoldenFile, set: &str) -> Result<Vec<Computed>, EvalError> {
    let logits = file.require(&format!("{set}/logits"))?;
    let mut results = Vec::new();
    for name in below(file, set, "mean_splits") {
        let Some(splits) = number(&name) else {
            continue;
        };
        let score = inception_score(logits, splits)?;
        for (what, value) in [("mean", score.mean), ("std", score.std)] {
            let name = format!("{set}/{what}_splits{splits}");
            results.push(Computed::new(name, scalar(value), MEAN));
        }
    }
    Ok(results)
}

/// The results of a set whose names begin like this, without the set.
fn below(file: &GoldenFile, set: &str, prefix: &str) -> Vec<String> {
    let set = format!("{set}/");
    let names = file.below(&set).filter(|name| name.starts_with(prefix));
    names.map(str::to_owned).collect()
}

/// The number at the end of a name.
fn number(name: &str) -> Option<u64> {
    let digits = name.trim_start_matches(|c: char| !c.is_ascii_digit());
    digits.parse().ok()
}

fn scalar(value: f64) -> Tensor {
    Tensor::from(value).to_kind(Kind::Double)
}
