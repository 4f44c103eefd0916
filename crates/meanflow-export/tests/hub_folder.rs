//! Folders for model hubs: their files, what PyTorch reads in them, and what is refused when they are read back.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use meanflow_export::ExportError;
use meanflow_export::hub_folder::{
    self, CARD, CONFIG, LOADER, Metric, ModelCard, SAMPLES, Training, WEIGHTS,
};
use meanflow_torch::{Device, Model, weights};
use serde_json::Value;

mod common;

fn card<'a>(model: &'a Model, names: Option<&'a [String]>) -> ModelCard<'a> {
    let metric = |sampler: &str, value| Metric {
        name: "fd_digits".to_owned(),
        value,
        half_width: Some(0.25),
        sampler: sampler.to_owned(),
        samples: Some(1797),
        reference: "digits: all".to_owned(),
    };
    ModelCard {
        name: "one step",
        license: Some("mit"),
        datasets: vec!["owner/data".to_owned()],
        model: model.config(),
        parameters: model.parameters().count(),
        class_names: names,
        vae: None,
        training: Some(Training {
            recipe: "seed = 0\n".to_owned(),
            steps: 6000,
            batch_size: 128,
            guidance: None,
            ema: "the moving average `0.999`".to_owned(),
        }),
        metrics: vec![metric("meanflow 1", 19.25), metric("meanflow 2", 13.5)],
        has_samples: true,
    }
}

fn metadata() -> BTreeMap<String, String> {
    let entries = [
        ("step", "6000"),
        ("class_names", r#"["zero","one","two"]"#),
        ("recipe", "seed = 0\n"),
    ];
    entries
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into()
}

fn exported(folder: &Path, model: &Model) {
    let names = ["zero", "one", "two"].map(str::to_owned);
    hub_folder::write(
        folder,
        model,
        &metadata(),
        &card(model, Some(&names)),
        Some(b"a picture"),
    )
    .unwrap();
}

fn of_kind(name: &str) -> Model {
    let (_, model) = common::models()
        .into_iter()
        .find(|(known, _)| *known == name)
        .unwrap();
    model
}

#[test]
fn a_folder_holds_the_model_and_reads_back_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    for (name, model) in common::models() {
        let folder = folder.path().join(name);
        fs::create_dir(&folder).unwrap();
        exported(&folder, &model);
        let mut files: Vec<_> = fs::read_dir(&folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        files.sort();
        assert_eq!(files, [CARD, CONFIG, WEIGHTS, LOADER, SAMPLES]);
        hub_folder::check(&folder).unwrap();
        let (read, read_metadata) = Model::load(&folder.join(WEIGHTS), Device::Cpu).unwrap();
        assert_eq!(read.config(), model.config());
        assert_eq!(read_metadata["step"], "6000");
        assert_eq!(common::drawn(&read, 1), common::drawn(&model, 1), "{name}");
        assert!(weights::verify(&folder.join(WEIGHTS)).unwrap().is_some());
        let config: Value =
            serde_json::from_slice(&fs::read(folder.join(CONFIG)).unwrap()).unwrap();
        assert_eq!(
            (&config["model_type"], &config["format_version"]),
            (&"meanflow".into(), &1.into())
        );
        assert_eq!(config["class_names"][2], "two");
    }
}

#[test]
fn a_config_that_disagrees_with_the_weights_is_an_error_that_names_the_key() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    exported(folder, &of_kind("dit-classes"));
    let path = folder.join(CONFIG);
    let whole: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    for (pointer, key, value) in [
        (
            "/model/network/width",
            "model.network.width",
            Value::from(32),
        ),
        ("/model/shape/2", "model.shape[2]", Value::from(16)),
        (
            "/model/schedule/kind",
            "model.schedule.kind",
            Value::from("cosine"),
        ),
        ("/class_names/0", "class_names[0]", Value::from("null")),
        ("/model_type", "model_type", Value::from("bert")),
        ("/format_version", "format_version", Value::from(2)),
    ] {
        let mut changed = whole.clone();
        *changed.pointer_mut(pointer).unwrap() = value;
        fs::write(&path, changed.to_string()).unwrap();
        match hub_folder::check(folder).unwrap_err() {
            ExportError::Config { key: found, .. } => assert_eq!(found, key),
            other => panic!("{key}: {other}"),
        }
    }
    for text in ["", "{", "[]", "nonsense"] {
        fs::write(&path, text).unwrap();
        let error = hub_folder::check(folder).unwrap_err().to_string();
        assert!(error.contains(CONFIG), "{text}: {error}");
    }
    fs::write(&path, vec![b' '; 5 << 20]).unwrap();
    assert!(
        hub_folder::check(folder)
            .unwrap_err()
            .to_string()
            .contains("at most")
    );
    // Without it there is nothing to compare.
    fs::remove_file(&path).unwrap();
    hub_folder::check(folder).unwrap();
}

#[test]
fn a_card_has_a_front_matter_that_hubs_understand() {
    let folder = tempfile::tempdir().unwrap();
    exported(folder.path(), &of_kind("unet-classes"));
    let text = fs::read_to_string(folder.path().join(CARD)).unwrap();
    let front = text
        .strip_prefix("---\n")
        .unwrap()
        .split_once("\n---\n")
        .unwrap()
        .0;
    for line in [
        "license: mit",
        "library_name: meanflow",
        "pipeline_tag: unconditional-image-generation",
        "- unet",
        "- owner/data",
        "- name: \"one step\"",
        "      name: \"digits: all\"",
        "    - type: fd_digits",
        "      name: \"fd_digits (meanflow 1)\"",
        "      value: 19.25",
        "      value: 13.5",
    ] {
        assert!(front.lines().any(|one| one == line), "{line}\n{front}");
    }
    for words in [
        "3 classes: zero, one, two.",
        "meanflow sample . --seeds 0-63 --out grid.png",
        "from modeling_meanflow import MeanFlow",
        "a U-Net with",
        "labels=[0, 1, 2, 0])",
        "labels: Some(&[0, 1, 2, 0])",
        "Model::load(\"model.safetensors\"",
        "| fd_digits | meanflow 1 | 19.25 ± 0.2500 | 1797 | digits: all |",
        "6000 steps of 128 samples. Guidance: none. Weights: the moving average `0.999`.",
        "```toml\nseed = 0\n```",
        "![Samples",
    ] {
        assert!(text.contains(words), "{words}\n{text}");
    }
}

#[test]
fn a_card_says_nothing_that_nobody_has_said() {
    let folder = tempfile::tempdir().unwrap();
    let model = of_kind("mlp");
    let silent = ModelCard {
        license: None,
        datasets: Vec::new(),
        metrics: Vec::new(),
        training: None,
        ..card(&model, None)
    };
    hub_folder::write(folder.path(), &model, &BTreeMap::new(), &silent, None).unwrap();
    let text = fs::read_to_string(folder.path().join(CARD)).unwrap();
    for word in [
        "license",
        "datasets",
        "model-index",
        "## Training",
        "## Evaluation",
    ] {
        assert!(!text.contains(word), "{word}\n{text}");
    }
}

/// What the loader in PyTorch wants and draws, as `cargo xtask interchange --fixture` has stored it: the names and shapes of its tensors are those of the
/// files, and its samples those of the sampler.
#[test]
fn the_loader_for_pytorch_has_our_tensors_and_draws_our_samples() {
    /// A few dozen roundings of f32 in another order, of states of order one.
    const ROUNDING: f64 = 1e-5;
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let wanted = fs::read_to_string(fixtures.join("pytorch_tensors.json")).unwrap();
    let wanted: BTreeMap<String, BTreeMap<String, Vec<i64>>> =
        serde_json::from_str(&wanted).unwrap();
    let drawn = weights::read(&fixtures.join("pytorch.safetensors")).unwrap();
    let mut models = common::models();
    models.push(("dit-latents", common::latents()));
    assert_eq!(wanted.len(), models.len());
    for (name, model) in models {
        let parameters = model.parameters().iter();
        let ours: BTreeMap<String, Vec<i64>> = parameters
            .map(|(name, tensor)| (name.to_owned(), tensor.size()))
            .collect();
        assert_eq!(ours, wanted[name], "{name}");
        for steps in [1, 2] {
            let distance = common::distance(
                &common::drawn(&model, steps),
                &drawn[&format!("{name}.samples_{steps}")],
            );
            assert!(distance < ROUNDING, "{name}, {steps} steps: {distance}");
        }
    }
}

/// The loader is one file that needs nothing of ours, short enough to be read before it is run.
#[test]
fn the_loader_is_short_and_needs_three_packages() {
    let text = hub_folder::LOADER_TEXT;
    assert!(
        text.lines().count() <= 350,
        "{} lines",
        text.lines().count()
    );
    let imports = text
        .lines()
        .filter(|line| line.starts_with("import ") || line.starts_with("from "));
    let mut packages: Vec<&str> = imports
        .map(|line| line.split([' ', '.']).nth(1).unwrap())
        .collect();
    packages.dedup();
    packages.sort_unstable();
    packages.dedup();
    assert_eq!(
        packages,
        ["json", "math", "numpy", "pathlib", "safetensors", "torch"]
    );
}
