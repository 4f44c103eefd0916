//! Networks of features from files that describe themselves.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use meanflow_eval::{EvalError, Extractor, FeatureNetwork, Pixels};
use meanflow_torch::{Device, Kind, Tensor, weights};

const DESCRIPTION: &str = r#"{"input": [1, 4, 4], "layers": [
    {"conv": "c"}, "relu", "max_pool", {"linear": "l"}, "silu", "feature", {"linear": "out"}]}"#;

fn tensors() -> BTreeMap<&'static str, Tensor> {
    tch::set_num_threads(1);
    let numbers = |shape: &[i64]| {
        let count = shape.iter().product::<i64>() as i32;
        let values: Vec<f32> = (0..count)
            .map(|i| ((i * 37) % 11 - 5) as f32 / 8.0)
            .collect();
        Tensor::from_slice(&values).reshape(shape)
    };
    BTreeMap::from([
        ("c.weight", numbers(&[2, 1, 3, 3])),
        ("c.bias", numbers(&[2])),
        ("l.weight", numbers(&[5, 8])),
        ("l.bias", numbers(&[5])),
        ("out.weight", numbers(&[3, 5])),
        ("out.bias", numbers(&[3])),
    ])
}

/// A file with these tensors and this description, loaded.
fn load(
    tensors: &BTreeMap<&'static str, Tensor>,
    description: &str,
) -> Result<FeatureNetwork, EvalError> {
    let folder = tempfile::tempdir().unwrap();
    let path: PathBuf = folder.path().join("small.safetensors");
    let named: Vec<_> = tensors
        .iter()
        .map(|(name, x)| ((*name).to_owned(), x.copy()))
        .collect();
    let metadata = BTreeMap::from([("meanflow-features".to_owned(), description.to_owned())]);
    weights::save(&path, &named, metadata).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    let network = FeatureNetwork::load(&path, Device::Cpu)?;
    let embedded = FeatureNetwork::from_bytes(Path::new("small"), &bytes, Device::Cpu)?;
    assert_eq!(network.name(), embedded.name());
    Ok(network)
}

fn pictures() -> Tensor {
    let bytes: Vec<u8> = (0..32_u8).map(|i| i.wrapping_mul(57)).collect();
    Tensor::from_slice(&bytes).reshape([2, 1, 4, 4])
}

/// The layers one after another, written out.
#[test]
fn a_network_is_what_it_says() {
    let t = tensors();
    let found = load(&t, DESCRIPTION).unwrap().extract(&pictures()).unwrap();
    let x = Pixels
        .extract(&pictures())
        .unwrap()
        .pooled
        .reshape([2, 1, 4, 4]);
    let x = x
        .conv2d(
            &t["c.weight"],
            Some(&t["c.bias"]),
            [1, 1],
            [1, 1],
            [1, 1],
            1,
        )
        .clamp_min(0.0);
    // The largest of every four neighbours.
    let x = x
        .reshape([2, 2, 2, 2, 2, 2])
        .amax([3, 5].as_slice(), false)
        .flatten(1, -1);
    let x = x.matmul(&t["l.weight"].tr()) + &t["l.bias"];
    let x = &x * x.sigmoid();
    let logits = x.matmul(&t["out.weight"].tr()) + &t["out.bias"];
    // Sums of up to nine products of numbers around 1, in f32.
    let close = |a: &Tensor, b: &Tensor| (a - b).abs().max().double_value(&[]) < 1e-5;
    assert!(close(&found.pooled, &x));
    assert!(close(&found.logits.unwrap(), &logits));
    assert!(found.spatial.is_none());
}

#[test]
fn without_a_layer_after_the_features_there_are_no_logits() {
    let mut t = tensors();
    for name in ["l.weight", "l.bias", "out.weight", "out.bias"] {
        t.remove(name);
    }
    let description =
        r#"{"input": [1, 4, 4], "layers": [{"conv": "c"}, "gelu", "avg_pool", "mean", "feature"]}"#;
    let found = load(&t, description).unwrap().extract(&pictures()).unwrap();
    assert_eq!(found.pooled.size(), [2, 2]);
    assert!(found.logits.is_none());
}

/// What of the description is replaced, by what, and what is said of it.
const CHANGES: [(&str, &str, &str); 12] = [
    ("\"relu\"", "\"softmax\"", "unknown variant `softmax`"),
    ("\"feature\", ", "", "expected one layer \"feature\", got 0"),
    (
        "\"relu\"",
        "\"feature\"",
        "expected one layer \"feature\", got 2",
    ),
    (
        "\"max_pool\", ",
        "",
        "l: expected shape [out, 32], got [5, 8]",
    ),
    (
        "{\"conv\": \"c\"}, ",
        "",
        "l: expected shape [out, 4], got [5, 8]",
    ),
    (
        "{\"conv\": \"c\"}",
        "{\"conv\": \"d\"}",
        "missing: d.weight",
    ),
    (
        ", {\"linear\": \"out\"}",
        "",
        "no layer uses the tensor out.bias",
    ),
    ("\"silu\"", "\"mean\"", "mean: expected [C, H, W], got [5]"),
    (
        "\"max_pool\"",
        "\"max_pool\", \"max_pool\", \"max_pool\"",
        "max_pool: 1×1 pixels are too few",
    ),
    ("[1, 4, 4]", "[1, 0, 4]", "expected sides of 1 to 4096"),
    ("[1, 4, 4]", "[2, 4, 4]", "c: expected shape [out, 2, k, k]"),
    ("\"input\"", "\"inputs\"", "unknown field"),
];

#[test]
fn descriptions_that_do_not_fit_are_refused() {
    let network = load(&tensors(), DESCRIPTION).unwrap();
    let refused = network.extract(&pictures().reshape([2, 1, 2, 8]));
    assert!(matches!(refused, Err(EvalError::Shape { .. })));
    let refused = network.extract(&pictures().to_kind(Kind::Float));
    assert!(matches!(refused, Err(EvalError::Shape { .. })));
    for (from, to, expected) in CHANGES {
        assert!(DESCRIPTION.contains(from), "{from}");
        let error = load(&tensors(), &DESCRIPTION.replacen(from, to, 1))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains(expected) && error.contains("small"),
            "{error}"
        );
    }
}
