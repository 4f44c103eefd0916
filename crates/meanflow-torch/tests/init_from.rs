//! A model begins with the weights of another: every tensor that fits is the same, and every other one is named.

use std::collections::BTreeMap;
use std::path::PathBuf;

use meanflow_testing::{dit_model, networks, random_model};
use meanflow_torch::init_from::{InitFrom, InitOutcome, init_from};
use meanflow_torch::layers::TimeEmbedding;
use meanflow_torch::networks::{NetworkConfig, UnetConfig};
use meanflow_torch::{Device, Kind, Model, ModelConfig, Tensor, TorchError, weights};
use tempfile::TempDir;

/// The table of classes of a network.
const TABLE: &str = "y_embedder.embedding_table.weight";

fn saved(model: &Model) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    model.save(&path, BTreeMap::new()).unwrap();
    (folder, path)
}

/// A model as [`Model::new`] draws it.
fn drawn(config: &ModelConfig) -> Model {
    Model::new(config.clone(), 9, Device::Cpu, Kind::Double).unwrap()
}

fn plain(path: &std::path::Path, partial: bool) -> InitFrom<'_> {
    InitFrom {
        path,
        their_classes: None,
        our_classes: None,
        partial,
    }
}

fn values(model: &Model, name: &str) -> Tensor {
    model.parameters().get(name).unwrap().detach().copy()
}

#[test]
fn the_same_network_on_samples_of_another_size_gets_every_number() {
    let from = dit_model(TimeEmbedding::TH, 10);
    let (_folder, path) = saved(&from);
    let config = ModelConfig {
        shape: vec![3, 8, 8],
        ..from.config().clone()
    };
    let to = drawn(&config);
    let report = init_from(&to, &plain(&path, false)).unwrap();
    assert!(
        report
            .iter()
            .all(|entry| entry.outcome == InitOutcome::Taken)
    );
    assert_eq!(to.parameters().named(), from.parameters().named());
}

#[test]
fn the_levels_of_a_unet_keep_their_order_whatever_the_side() {
    let unet = |attention| {
        NetworkConfig::Unet(UnetConfig {
            filter: vec![1.0, 1.0],
            ..networks::unet(4, &[1, 2], 1, &[attention])
        })
    };
    let from = random_model(unet(4), &[2, 8, 8], 0);
    let (_folder, path) = saved(&from);
    let to = drawn(&ModelConfig {
        network: unet(8),
        shape: vec![2, 16, 16],
        ..from.config().clone()
    });
    init_from(&to, &plain(&path, false)).unwrap();
    let tensors = |model: &Model| {
        let named = model.parameters().named().into_iter();
        named.map(|(_, tensor)| tensor).collect::<Vec<_>>()
    };
    assert_eq!(tensors(&to), tensors(&from));
}

#[test]
fn classes_are_the_same_by_name_and_new_ones_begin_as_no_class() {
    let from = dit_model(TimeEmbedding::TH, 3);
    let (_folder, path) = saved(&from);
    let to = drawn(&ModelConfig {
        classes: 2,
        ..from.config().clone()
    });
    let names = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
    let theirs = names(&["cat", "dog", "cow"]);
    let rows = |ours: &[&str], partial| {
        let ours = names(ours);
        let init = InitFrom {
            their_classes: Some(&theirs),
            our_classes: Some(&ours),
            ..plain(&path, partial)
        };
        init_from(&to, &init).map(|_| values(&to, TABLE))
    };
    let table = values(&from, TABLE);
    let expected = |rows: &[i64]| table.index_select(0, &Tensor::from_slice(rows));
    assert_eq!(rows(&["cow", "cat"], false).unwrap(), expected(&[2, 0, 3]));
    assert_eq!(rows(&["fox", "dog"], true).unwrap(), expected(&[3, 1, 3]));
    let error = rows(&["fox", "dog"], false).unwrap_err().to_string();
    assert!(
        error.contains(&format!(
            "{TABLE}: expected rows of 2 classes, got 1 by name"
        )),
        "{error}"
    );
}

#[test]
fn what_does_not_fit_is_named_and_changes_nothing_unless_that_is_allowed() {
    let from = dit_model(TimeEmbedding::TH, 0);
    let (_folder, path) = saved(&from);
    let config = ModelConfig {
        shape: vec![1, 4, 6],
        classes: 5,
        ..from.config().clone()
    };
    let to = drawn(&config);
    let before = drawn(&config).parameters().named();
    let error = init_from(&to, &plain(&path, false))
        .unwrap_err()
        .to_string();
    for line in [
        "x_embedder.proj.weight: expected shape [16, 1, 2, 2], got [16, 3, 2, 2]",
        "missing: y_embedder.embedding_table.weight [6, 16]",
        "final_layer.linear.bias: expected shape [4], got [12]",
    ] {
        assert!(error.contains(line), "{line}\n{error}");
    }
    assert_eq!(to.parameters().named(), before);

    let report = init_from(&to, &plain(&path, true)).unwrap();
    for (entry, (name, tensor)) in report.iter().zip(&before) {
        let expected = match &entry.outcome {
            InitOutcome::Taken => values(&from, name),
            InitOutcome::Drawn { .. } => tensor.detach().copy(),
            other => panic!("{name}: {other:?}"),
        };
        assert_eq!(values(&to, name), expected, "{name}");
    }
    // The patches, the table and the last layer.
    let is_drawn = |outcome: &InitOutcome| matches!(outcome, InitOutcome::Drawn { .. });
    let count = report
        .iter()
        .filter(|entry| is_drawn(&entry.outcome))
        .count();
    assert_eq!(count, 4);
}

#[test]
fn tensors_that_the_network_has_not_are_named() {
    let from = dit_model(TimeEmbedding::TH, 4);
    let (_folder, path) = saved(&from);
    let to = drawn(&ModelConfig {
        classes: 0,
        ..from.config().clone()
    });
    let error = init_from(&to, &plain(&path, false))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains(&format!("unexpected: {TABLE} [5, 16]")),
        "{error}"
    );
    let report = init_from(&to, &plain(&path, true)).unwrap();
    assert_eq!(report.last().unwrap().outcome, InitOutcome::Unused);
}

#[test]
fn weights_of_nothing_in_common_and_of_other_programs_are_refused() {
    let from = meanflow_testing::mlp_model(TimeEmbedding::TH, 0);
    let (folder, path) = saved(&from);
    let to = drawn(dit_model(TimeEmbedding::TRH, 0).config());
    let error = init_from(&to, &plain(&path, true));
    // The embedders of t and h are of both, of other widths.
    assert!(
        matches!(error, Err(TorchError::Weights { .. })),
        "{error:?}"
    );
    let other = folder.path().join("other.safetensors");
    weights::save(&other, &from.parameters().named(), BTreeMap::new()).unwrap();
    let error = init_from(&to, &plain(&other, true)).unwrap_err();
    assert!(error.to_string().contains("convert import"), "{error}");
}
