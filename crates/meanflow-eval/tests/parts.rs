//! Results of a shard in its file: they come back bit for bit, and what is no such thing is refused.

mod common;

use std::fs;
use std::path::Path;

use common::normal;
use meanflow_eval::{EvalError, Moments, Named, PartFile, ScoreSums};
use meanflow_torch::{Device, Kind, Tensor, weights};

fn written(path: &Path, tensors: &Named) -> PartFile {
    weights::save(path, tensors, Default::default()).unwrap();
    PartFile::read(path).unwrap().0
}

#[test]
fn results_come_back_bit_for_bit() {
    let folder = tempfile::tempdir().unwrap();
    let (x, logits) = (normal(20, 4, 3), normal(20, 5, 4));
    let mut moments = Moments::new(4);
    moments.update(&x).unwrap();
    let mut sums = ScoreSums::new(20, 3, 5).unwrap();
    sums.update(0, &logits).unwrap();
    let mut tensors = moments.state("a");
    tensors.extend(sums.state("b"));
    let mut file = written(&folder.path().join("part.safetensors"), &tensors);
    let read = Moments::load(&mut file, "a").unwrap();
    assert_eq!(read.count(), 20);
    let (one, other) = (moments.compute().unwrap(), read.compute().unwrap());
    assert_eq!(one.mean(), other.mean());
    assert_eq!(one.covariance(), other.covariance());
    let read = ScoreSums::load(&mut file, "b").unwrap();
    assert_eq!(read.compute().unwrap(), sums.compute().unwrap());
    // What was taken is gone.
    assert!(!file.has("a.mean") && Moments::load(&mut file, "a").is_err());
}

fn double(shape: &[i64]) -> Tensor {
    Tensor::zeros(shape, (Kind::Double, Device::Cpu))
}

/// Why tensors of these names are not taken.
fn refused<T>(
    tensors: &[(&str, Tensor)],
    take: impl Fn(&mut PartFile, &str) -> Result<T, EvalError>,
) -> String {
    let folder = tempfile::tempdir().unwrap();
    let named = |(name, tensor): &(&str, Tensor)| (format!("x.{name}"), tensor.copy());
    let mut file = written(
        &folder.path().join("part.safetensors"),
        &tensors.iter().map(named).collect(),
    );
    let error = take(&mut file, "x").err().unwrap().to_string();
    assert!(error.contains("part.safetensors: x"), "{error}");
    error
}

#[test]
fn tensors_that_are_no_moments_are_refused() {
    for (count, mean, scatter, expected) in [
        (3, double(&[2]), double(&[3, 2]), "scatter [D, D]"),
        (-1, double(&[2]), double(&[2, 2]), "negative"),
        (3, double(&[2]) / 0.0, double(&[2, 2]), "not finite"),
        (3, double(&[2, 1]), double(&[2, 2]), "mean: expected 1 axes"),
    ] {
        let count = Tensor::from_slice(&[count as i64]);
        let tensors = [("count", count), ("mean", mean), ("scatter", scatter)];
        let error = refused(&tensors, Moments::load);
        assert!(error.contains(expected), "{error}");
    }
    let error = refused(&[("count", Tensor::from_slice(&[1_i64]))], Moments::load);
    assert!(error.contains("got none"), "{error}");
}

#[test]
fn tensors_that_are_no_sums_of_a_score_are_refused() {
    let counts = |values: &[i64]| Tensor::from_slice(values);
    for (seen, certainty, probabilities, expected) in [
        (counts(&[1, 2]), double(&[2]), double(&[3, 4]), "[S, K]"),
        (counts(&[1, -2]), double(&[2]), double(&[2, 4]), "negative"),
        (
            counts(&[1]),
            double(&[1]) / 0.0,
            double(&[1, 4]),
            "not finite",
        ),
    ] {
        let tensors = [
            ("samples", counts(&[3])),
            ("seen", seen),
            ("certainty", certainty),
            ("probabilities", probabilities),
        ];
        let error = refused(&tensors, ScoreSums::load);
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn a_file_of_something_else_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.safetensors");
    fs::write(&path, "no safetensors").unwrap();
    assert!(PartFile::read(&path).is_err());
}
