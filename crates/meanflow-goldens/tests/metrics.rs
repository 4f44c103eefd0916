//! The numbers of public implementations of the metrics, reproduced from their features.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use meanflow_core::{Purpose, RngStream};
use meanflow_goldens::{Report, Setting};
use meanflow_torch::{Device, JvpMethod, Kind, Tensor, TorchError, weights};

fn check(path: &Path) -> Result<Report, TorchError> {
    tch::set_num_threads(1);
    let setting = Setting {
        device: Device::Cpu,
        kind: Kind::Float,
        jvp: JvpMethod::Dual,
    };
    meanflow_goldens::check(path, &setting)
}

fn official() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("files/metrics/frechet_a.safetensors")
}

/// Standard normal features `[rows, dims]` in f64, fixed by the seed.
fn normal(rows: i64, dims: i64, seed: u64) -> Tensor {
    let mut values = vec![0.0; (rows * dims) as usize];
    RngStream::new(seed, Purpose::Data, 0).fill_normal(&mut values);
    let values = Tensor::from_slice(&values).to_kind(Kind::Double);
    values.reshape([rows, dims])
}

#[test]
fn public_implementations() {
    let report = check(&official()).unwrap();
    println!("{report}");
    assert!(report.passes(), "{report}");
    assert_eq!(report.unchecked, Vec::<String>::new());
    // Two sets of features with 15 results each, one set of logits with two numbers of parts.
    assert_eq!(report.comparisons.len(), 2 * 15 + 2 * 2);
    for line in &report.comparisons {
        // The accurate form of the distance is met to rounding, also without full rank.
        let accurate = line.tensor.ends_with("nuclear_norm_form");
        assert!(!accurate || line.max_error < 1e-11, "{line:?}");
    }
}

/// A golden of the same kind with other sets, shapes and numbers, in a folder of its own.
fn written(tensors: &BTreeMap<&str, Tensor>) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("frechet_z.safetensors");
    let named: Vec<_> = tensors
        .iter()
        .map(|(name, x)| ((*name).to_owned(), x.copy()))
        .collect();
    weights::save(&path, &named, BTreeMap::new()).unwrap();
    fs::write(path.with_extension("json"), "{\"config\": {}}").unwrap();
    (folder, path)
}

#[test]
fn other_files_of_the_kind() {
    let x = normal(30, 4, 1);
    // Equal sets: no distance, all inside each other.
    let mut tensors = BTreeMap::from([
        ("twins/x", x.copy()),
        ("twins/y", x),
        ("twins/frechet_somebody", Tensor::from_slice(&[0.0])),
        ("twins/precision_k7", Tensor::from_slice(&[1.0])),
        ("other/logits", normal(12, 3, 2) * 0.0),
        ("other/mean_splits4", Tensor::from_slice(&[1.0])),
        ("other/std_splits4", Tensor::from_slice(&[0.0])),
        ("other/something_else", Tensor::from_slice(&[0.0])),
    ]);
    let (_folder, path) = written(&tensors);
    let report = check(&path).unwrap();
    assert!(report.passes(), "{report}");
    assert_eq!(
        (report.comparisons.len(), report.unchecked),
        (4, vec!["other/something_else".to_owned()])
    );

    tensors.insert("twins/frechet_somebody", Tensor::from_slice(&[2e-9]));
    let (_folder, path) = written(&tensors);
    assert!(!check(&path).unwrap().passes());

    tensors.remove("twins/y");
    let (_folder, path) = written(&tensors);
    assert!(
        check(&path)
            .unwrap_err()
            .to_string()
            .contains("missing: twins/y")
    );
}
