//! A weights file fits exactly or is refused as a whole, and a failed save loses nothing.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::rc::Rc;

use meanflow_files::layer::{Effect, Layer, Operation, under};
use meanflow_files::sha256_of_file;
use meanflow_testing::{dit_model, normal};
use meanflow_torch::layers::TimeEmbedding;
use meanflow_torch::{
    Adam, AdamConfig, Device, Gradients, Kind, Model, ModelConfig, Tensor, weights,
};
use proptest::prelude::*;

fn small() -> Vec<(String, Tensor)> {
    let float = |seed, shape: &[i64]| normal(seed, shape).to_kind(Kind::Float);
    vec![
        ("a.weight".into(), float(1, &[3, 4])),
        ("a.bias".into(), float(2, &[3])),
        ("scale".into(), float(3, &[])),
    ]
}

fn zeros(like: &[(String, Tensor)]) -> Vec<(String, Tensor)> {
    like.iter()
        .map(|(name, tensor)| (name.clone(), tensor.zeros_like()))
        .collect()
}

fn file() -> (tempfile::TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    (folder, path)
}

/// The law of the hash: whatever bit of the file is flipped, no reader takes it.
#[test]
fn every_flipped_bit_of_a_file_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.safetensors");
    let metadata = BTreeMap::from([("step".to_owned(), "7".to_owned())]);
    weights::save(&path, &small(), metadata).unwrap();
    assert!(weights::verify(&path).unwrap().is_some());
    let whole = fs::read(&path).unwrap();
    for bit in 0..whole.len() * 8 {
        let mut damaged = whole.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        fs::write(&path, &damaged).unwrap();
        // A header with other blanks says the same.
        let blank = |byte: u8| b" \n\t\r".contains(&byte);
        if blank(damaged[bit / 8]) && blank(whole[bit / 8]) {
            continue;
        }
        assert!(weights::verify(&path).is_err(), "bit {bit}");
        assert!(weights::read(&path).is_err(), "bit {bit}");
    }
}

/// A disk that keeps other bytes than it was given.
#[derive(Debug)]
struct Lying(fn(&mut Vec<u8>));

impl Layer for Lying {
    fn before(&mut self, operation: Operation) -> Effect {
        if let Operation::Rename { from, .. } = operation {
            let mut bytes = fs::read(&from).unwrap();
            (self.0)(&mut bytes);
            fs::write(&from, bytes).unwrap();
        }
        Effect::Whole
    }
}

/// Two tensors of more than a piece, one of them not in the order of its memory, and small ones.
fn large() -> Vec<(String, Tensor)> {
    let mut tensors = small();
    let float = |seed, shape: &[i64]| normal(seed, shape).to_kind(Kind::Float);
    tensors.push(("large".into(), float(4, &[600, 501])));
    tensors.push((
        "turned".into(),
        float(5, &[700, 801]).to_kind(Kind::Double).tr(),
    ));
    tensors.push(("none".into(), float(6, &[0, 3])));
    tensors
}

#[test]
fn a_file_that_is_read_back_otherwise_is_noticed() {
    let (_folder, path) = file();
    let save = |change| {
        let work = || weights::save_compared(&path, &large(), BTreeMap::new());
        under(Rc::new(RefCell::new(Lying(change))), work)
    };
    let (bytes, sha256) = save(|_| {}).unwrap();
    assert_eq!(sha256_of_file(&path).unwrap(), (bytes, sha256));
    for (name, tensor) in large() {
        assert_eq!(weights::read(&path).unwrap()[&name], tensor, "{name}");
    }
    let damages: [fn(&mut Vec<u8>); 6] = [
        |bytes| bytes[20] ^= 1,
        |bytes| bytes[3_000_000] ^= 64,
        |bytes| *bytes.last_mut().unwrap() ^= 1,
        |bytes| bytes.truncate(bytes.len() - 1),
        |bytes| bytes.push(0),
        Vec::clear,
    ];
    for (index, damage) in damages.into_iter().enumerate() {
        let error = save(damage).unwrap_err().to_string();
        assert!(
            error.contains("other bytes than were written"),
            "{index}: {error}"
        );
        assert!(error.contains("model.safetensors"), "{index}: {error}");
    }
}

#[test]
fn a_file_without_tensors_and_metadata_is_whole_too() {
    let (_folder, path) = file();
    weights::save(&path, &[], BTreeMap::new()).unwrap();
    let header = weights::header(&path).unwrap();
    assert!(header.tensors.is_empty() && header.metadata.is_empty());
    assert!(weights::read(&path).unwrap().is_empty());
    let some = BTreeMap::from([("step".to_owned(), "7".to_owned())]);
    weights::save(&path, &[], some.clone()).unwrap();
    assert_eq!(weights::header(&path).unwrap().metadata, some);
}

#[test]
fn what_is_saved_is_loaded() {
    let (_folder, path) = file();
    let (tensors, metadata) = (
        small(),
        BTreeMap::from([("step".to_owned(), "7".to_owned())]),
    );
    weights::save(&path, &tensors, metadata.clone()).unwrap();
    let loaded = zeros(&tensors);
    assert_eq!(weights::load_strict(&path, &loaded).unwrap(), metadata);
    assert_eq!(loaded, tensors);
    let header = weights::header(&path).unwrap();
    assert_eq!(header.tensors.len(), 3);
    assert_eq!(
        (
            header.tensors[1].name.as_str(),
            header.tensors[1].shape.as_slice()
        ),
        ("a.weight", [3, 4].as_slice())
    );
}

/// Every way in which a file may fail to fit, with what the message must name.
fn misfits() -> Vec<(Vec<(String, Tensor)>, &'static str)> {
    let replaced = |index: usize, name: &str, tensor: Tensor| {
        let mut tensors = small();
        tensors[index] = (name.into(), tensor);
        tensors
    };
    let mut longer = small();
    longer.push(("b".into(), normal(4, &[2]).to_kind(Kind::Float)));
    let shorter = small().into_iter().skip(1).collect::<Vec<_>>();
    let float = |shape: &[i64]| normal(5, shape).to_kind(Kind::Float);
    vec![
        (shorter, "missing: a.weight [3, 4]"),
        (longer, "unexpected: b [2]"),
        (
            replaced(0, "a.weight", float(&[4, 3])),
            "a.weight: expected shape [3, 4], got [4, 3]",
        ),
        (
            replaced(0, "a.weight", float(&[1, 4])),
            "a.weight: expected shape [3, 4], got [1, 4]",
        ),
        (
            replaced(1, "a.bias", float(&[1])),
            "a.bias: expected shape [3], got [1]",
        ),
        (
            replaced(2, "scale", float(&[1])),
            "scale: expected shape [], got [1]",
        ),
        (
            replaced(1, "a.bias", normal(5, &[3])),
            "a.bias: expected type F32, got F64",
        ),
        (
            replaced(1, "bias", float(&[3])),
            "missing: a.bias [3]\n  unexpected: bias [3]",
        ),
    ]
}

#[test]
fn what_does_not_fit_is_refused_whole_and_named() {
    let (_folder, path) = file();
    let good = small();
    for (tensors, message) in misfits() {
        weights::save(&path, &tensors, BTreeMap::new()).unwrap();
        let target = zeros(&good);
        let error = weights::load_strict(&path, &target)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains(message) && error.contains("model.safetensors"),
            "{error}"
        );
        assert_eq!(target, zeros(&good), "nothing half-loaded");
    }
}

/// One change that no loader may pass over: what torch's `copy_` would broadcast, convert or leave out.
fn mutated(kind: usize, index: usize, size: i64) -> Vec<(String, Tensor)> {
    let mut tensors = small();
    let options = (Kind::Float, Device::Cpu);
    let (name, tensor) = (tensors[index].0.clone(), tensors[index].1.shallow_clone());
    let shape = tensor.size();
    match kind {
        0 => tensors[index].0 = format!("{name}.{size}"),
        1 => drop(tensors.remove(index)),
        2 => tensors.push((format!("more.{size}"), Tensor::ones([size], options))),
        // Broadcastable: ones in front, and every side 1.
        3 => tensors[index].1 = tensor.reshape([&[1], &shape[..]].concat()),
        4 => tensors[index].1 = Tensor::ones(vec![1; shape.len() + 1], options),
        5 => tensors[index].1 = Tensor::ones([&shape[..], &[size]].concat(), options),
        6 => {
            tensors[index].1 =
                tensor.to_kind([Kind::Double, Kind::Int64, Kind::Half][size as usize % 3]);
        }
        _ => {
            let other = (index + 1) % tensors.len();
            let one = tensors[index].1.shallow_clone();
            tensors[index].1 = std::mem::replace(&mut tensors[other].1, one);
        }
    }
    tensors
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn five_hundred_files_that_do_not_fit_are_refused_whole(kind in 0_usize..8, index in 0_usize..3, size in 1_i64..9) {
        let (_folder, path) = file();
        weights::save(&path, &mutated(kind, index, size), BTreeMap::new()).unwrap();
        let target = zeros(&small());
        let error = weights::load_strict(&path, &target).unwrap_err().to_string();
        prop_assert!(error.contains("model.safetensors"), "{}", error);
        prop_assert_eq!(target, zeros(&small()), "nothing half-loaded");
    }
}

#[test]
fn tensors_that_lie_otherwise_than_in_the_file_are_loaded_too() {
    let (_folder, path) = file();
    let options = (Kind::Float, Device::Cpu);
    let there = [
        ("square".to_owned(), Tensor::randn([3, 3], options)),
        ("row".to_owned(), Tensor::randn([4], options)),
        ("nothing".to_owned(), Tensor::empty([0], options)),
    ];
    weights::save(&path, &there, BTreeMap::new()).unwrap();
    let loaded = [
        ("square".to_owned(), Tensor::zeros([3, 3], options).t_()),
        (
            "row".to_owned(),
            Tensor::zeros([3, 4], options).select(0, 1),
        ),
        ("nothing".to_owned(), Tensor::empty([0], options)),
    ];
    let versions = || {
        loaded
            .each_ref()
            .map(|(_, tensor)| tensor.internal_version())
    };
    let before = versions();
    weights::load_strict(&path, &loaded).unwrap();
    assert_eq!(loaded, there);
    // Copies in another dtype are made anew when this changes.
    for (before, after) in before.iter().zip(versions()).take(2) {
        assert!(*before < after);
    }
}

#[test]
fn pickles_are_never_opened() {
    for stem in ["model", "pytorch_model", "a.b", "ema-0.999"] {
        for end in ["pt", "pth", "ckpt", "pkl", "pickle", "bin"] {
            let name = format!("{stem}.{end}");
            let error = weights::header(Path::new(&name)).unwrap_err().to_string();
            assert!(
                error.contains("pickle") && error.contains("safetensors"),
                "{error}"
            );
        }
    }
}

#[test]
fn every_truncation_is_refused() {
    let (_folder, path) = file();
    weights::save(&path, &small(), BTreeMap::new()).unwrap();
    let whole = fs::read(&path).unwrap();
    for length in 0..whole.len() {
        fs::write(&path, &whole[..length]).unwrap();
        assert!(
            weights::load_strict(&path, &zeros(&small())).is_err(),
            "{length} of {} bytes",
            whole.len()
        );
    }
}

#[test]
fn a_save_that_fails_keeps_the_file() {
    let (_folder, path) = file();
    weights::save(&path, &small(), BTreeMap::new()).unwrap();
    let before = fs::read(&path).unwrap();
    let unsupported = vec![(
        "a".to_owned(),
        Tensor::zeros([2], (Kind::ComplexFloat, Device::Cpu)),
    )];
    assert!(weights::save(&path, &unsupported, BTreeMap::new()).is_err());
    assert_eq!(fs::read(&path).unwrap(), before);
    let twice = ["a", "b", "a"].map(|name| (name.to_owned(), Tensor::from(1.0_f64)));
    let refused = weights::save(&path, &twice, BTreeMap::new()).unwrap_err();
    assert!(refused.to_string().contains("two tensors called a"));
    assert_eq!(fs::read(&path).unwrap(), before);
    let nowhere = path.join("below-a-file");
    assert!(
        weights::save(&nowhere, &small(), BTreeMap::new())
            .unwrap_err()
            .to_string()
            .contains("could not write")
    );
}

proptest! {
    #[test]
    fn no_bytes_make_the_reader_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..400), length in 0_u64..500) {
        let (_folder, path) = file();
        if bytes.len() >= 8 {
            bytes[..8].copy_from_slice(&length.to_le_bytes());
        }
        fs::write(&path, &bytes).unwrap();
        prop_assert!(weights::header(&path).is_err());
        prop_assert!(weights::load_strict(&path, &zeros(&small())).is_err());
    }

    #[test]
    fn no_flipped_bit_of_the_header_makes_the_reader_panic(position in 0_usize..200, bit in 0_u8..8) {
        let (_folder, path) = file();
        weights::save(&path, &small(), BTreeMap::new()).unwrap();
        let mut bytes = fs::read(&path).unwrap();
        bytes[position] ^= 1 << bit;
        fs::write(&path, &bytes).unwrap();
        let _ = weights::load_strict(&path, &zeros(&small()));
    }
}

#[test]
fn a_model_file_is_enough_to_rebuild_the_model() {
    let (_folder, path) = file();
    let config = ModelConfig {
        ..dit_model(TimeEmbedding::TRH, 10).config().clone()
    };
    let model = Model::new(config, 3, Device::Cpu, Kind::Float).unwrap();
    meanflow_testing::randomise(&model);
    model
        .save(&path, BTreeMap::from([("step".to_owned(), "9".to_owned())]))
        .unwrap();
    let (loaded, metadata) = Model::load(&path, Device::Cpu).unwrap();
    assert_eq!(
        (loaded.config(), metadata["step"].as_str()),
        (model.config(), "9")
    );
    let z = normal(1, &[2, 3, 4, 6]).to_kind(Kind::Float);
    let u = |model: &Model| model.predict(&z, &[0.0, 0.2], &[1.0, 0.2], Some(&[1, 10]));
    assert_eq!(u(&loaded), u(&model));
    weights::save(&path, &model.parameters().named(), BTreeMap::new()).unwrap();
    let error = Model::load(&path, Device::Cpu).unwrap_err().to_string();
    assert!(error.contains("not written by meanflow"), "{error}");
}

#[test]
fn an_optimiser_goes_on_from_its_state_as_if_it_had_never_stopped() {
    let (_folder, path) = file();
    let adam = AdamConfig {
        weight_decay: 0.01,
        ..AdamConfig::PUBLISHED
    };
    let model = || {
        Model::new(
            dit_model(TimeEmbedding::TH, 0).config().clone(),
            3,
            Device::Cpu,
            Kind::Float,
        )
        .unwrap()
    };
    let step = |model: &Model, optimizer: &mut Adam, index: u64| {
        let z = normal(index, &[2, 3, 4, 6]).to_kind(Kind::Float);
        model
            .average_velocity(&z, &[0.0; 2], &[1.0; 2], None)
            .square()
            .sum(Kind::Float)
            .backward();
        for (_, tensor) in model.parameters().iter() {
            let _ = tensor.grad().g_add_scalar_(0.1);
        }
        let gradients = Gradients::take(model.parameters()).unwrap();
        optimizer.set_lr(1e-2);
        optimizer.step(&gradients, &gradients.is_finite()).unwrap();
    };
    let (straight, stopped) = (model(), model());
    let mut one = Adam::new(straight.parameters(), adam);
    let mut two = Adam::new(stopped.parameters(), adam);
    (0..2).for_each(|index| step(&straight, &mut one, index));
    (0..2).for_each(|index| step(&stopped, &mut two, index));
    weights::save(&path, &two.state(), BTreeMap::new()).unwrap();
    let mut two = Adam::new(stopped.parameters(), adam);
    weights::load_strict(&path, &two.state()).unwrap();
    (2..5).for_each(|index| step(&straight, &mut one, index));
    (2..5).for_each(|index| step(&stopped, &mut two, index));
    assert_eq!(straight.parameters().named(), stopped.parameters().named());
}
