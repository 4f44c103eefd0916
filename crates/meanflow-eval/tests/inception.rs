//! Inception against torch-fidelity's own module, feature by feature, in `fixtures/inception.safetensors`.
//!
//! The published weights are not needed for that: any weights must give the same features.

mod formula;

use std::collections::BTreeMap;
use std::path::Path;

use formula::{pictures, words};
use meanflow_eval::{InceptionV3, Resize};
use meanflow_torch::{Device, Kind, Tensor, weights};

fn fixture(name: &str) -> BTreeMap<String, Tensor> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    weights::read(&folder.join(name)).unwrap()
}

/// Uniform numbers: of the size of He's initialisation, or around 1 for scales and variances; as `fixtures/make.py`.
fn weight(name: &str, shape: &[i64]) -> Tensor {
    let count = shape.iter().product::<i64>() as usize;
    let fan_in: i64 = shape[1..].iter().product();
    let (scale, center) = match shape.len() {
        1 if name.ends_with("bn.weight") || name.ends_with("running_var") => (0.4, 1.0),
        1 => (0.4, 0.0),
        _ => ((24.0 / fan_in as f64).sqrt(), 0.0),
    };
    let uniform = words(name, count).map(|word| f64::from(word) / 4_294_967_296.0 - 0.5);
    let values: Vec<f32> = uniform.map(|u| (center + scale * u) as f32).collect();
    Tensor::from_slice(&values).reshape(shape)
}

/// The state dictionary of the published network: names and shapes as an empty file of weights is told to have them.
fn state(fill: impl Fn(&str, &[i64]) -> Tensor) -> BTreeMap<String, Tensor> {
    // Every test starts here. More threads than the machine has to spare wait for each other.
    tch::set_num_threads(1);
    let origin = Path::new("nothing.safetensors");
    let missing = InceptionV3::new(BTreeMap::new(), origin, Resize::LegacyTf, Device::Cpu);
    let text = missing.unwrap_err().to_string();
    let named = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("missing: "));
    let state = named.map(|line| {
        let (name, shape) = line.split_once(' ').unwrap();
        let shape: Vec<i64> = serde_json::from_str(shape).unwrap();
        (name.to_owned(), fill(name, &shape))
    });
    state.collect()
}

#[test]
fn every_feature_is_torch_fidelitys() {
    let mut state = state(weight);
    // 94 convolutions with four tensors of batch norm each, and the classifier.
    assert_eq!(state.len(), 94 * 5 + 2);
    // A whole state dictionary has counters that nothing here needs.
    state.insert(
        "Mixed_5b.branch1x1.bn.num_batches_tracked".into(),
        Tensor::from_slice(&[0_i64]),
    );
    let network =
        InceptionV3::new(state, Path::new("formula"), Resize::LegacyTf, Device::Cpu).unwrap();
    let pictures = pictures("pictures", &[1, 3, 40, 56]);
    let found = network.layers(&pictures).unwrap();
    let expected = fixture("inception.safetensors");
    for (name, found) in [
        ("64", &found.pooled_64),
        ("192", &found.pooled_192),
        ("768", &found.pooled_768),
        ("2048", &found.pooled_2048),
        ("spatial", &found.spatial),
        ("logits_unbiased", &found.logits_unbiased),
        ("logits", &found.logits),
    ] {
        assert_eq!(found.size(), expected[name].size(), "{name}");
        let error = (found - &expected[name]).abs().max().double_value(&[]);
        println!("{name}: {error:.1e}");
        // Features are about 1. Ours are in f32, the others in f64. Measured: 1e-5 in the logits, 2e-6 and less elsewhere.
        assert!(error < 1e-4, "{name}: {error}");
    }
}

#[test]
fn weights_of_another_network_are_refused_by_name() {
    let mut state = state(|_, shape| Tensor::zeros(shape, (Kind::Float, Device::Cpu)));
    state.remove("Mixed_7c.branch3x3_2b.bn.running_var");
    state.insert("AuxLogits.fc.weight".into(), Tensor::from_slice(&[1.0_f32]));
    state.insert("fc.bias".into(), Tensor::from_slice(&[0.0_f32; 1000]));
    let refused = InceptionV3::new(state, Path::new("other"), Resize::Clean, Device::Cpu);
    let error = refused.unwrap_err().to_string();
    for expected in [
        "missing: Mixed_7c.branch3x3_2b.bn.running_var [384]",
        "unexpected: AuxLogits.fc.weight",
        "fc.bias: expected shape [1008] of floats, got [1000]",
    ] {
        assert!(error.contains(expected), "{error}");
    }
    assert_eq!(error.lines().count(), 4, "{error}");
}
