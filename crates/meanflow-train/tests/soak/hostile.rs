//! Files of a run with damage of every kind: refused with a reason, or read whole; never a panic, and never slow.
//!
//! Each is a valid one with one to four changes that follow from a seed. What is read here is text or a header: anything that
//! is said of sizes must be compared with the file before memory is taken for it.

use std::error::Error;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use crate::common::{RECIPE, recipe};
use crate::damage::{damaged, inputs};
use meanflow_core::random::{Purpose, RngStream};
use meanflow_torch::networks::VaeConfig;
use meanflow_torch::{Device, Model, weights};
use meanflow_train::{
    Checkpoint, CrashBundle, Silent, TrainConfig, TrainError, class_names_of, metrics, recipe_of,
    train,
};

/// Longest that one file may take: most take well below a millisecond, but tests share their processors with others.
const PATIENCE: Duration = Duration::from_secs(20);

/// Reads damaged copies of some bytes, written to `path`; at least one in ten must be refused.
fn refused_or_read<E: Error>(path: &Path, bytes: &[u8], read: impl Fn(&Path) -> Result<(), E>) {
    let name = path.file_name().unwrap().to_string_lossy().into_owned();
    let mut stream = RngStream::new(bytes.len() as u64, Purpose::Data, 3);
    let (count, mut refused) = (inputs(400), 0);
    for case in 0..count {
        fs::write(path, damaged(bytes, &mut stream)).unwrap();
        let begun = Instant::now();
        let result = catch_unwind(AssertUnwindSafe(|| read(path)));
        assert!(begun.elapsed() < PATIENCE, "{name} {case}");
        match result.unwrap_or_else(|_| panic!("{name} {case}: a panic")) {
            Ok(()) => {}
            Err(error) => {
                assert!(!error.to_string().is_empty());
                refused += 1;
            }
        }
    }
    fs::write(path, bytes).unwrap();
    assert!(
        10 * refused >= count,
        "{name}: {refused} of {count} refused"
    );
}

/// A run of a few steps that diverged once: all kinds of files.
fn run(folder: &Path) -> PathBuf {
    let root = folder.join("run");
    let go = |overrides: &[&str]| {
        let stop = AtomicBool::new(false);
        let config = recipe(overrides);
        train(config, &root, Device::Cpu, &stop, &mut Silent)
    };
    go(&["training.steps=6"]).unwrap();
    let diverged = folder.join("diverged");
    let stop = AtomicBool::new(false);
    let config = recipe(&["lr.peak=1e300"]);
    train(config, &diverged, Device::Cpu, &stop, &mut Silent).unwrap_err();
    fs::copy(diverged.join("crash-1.json"), root.join("crash-1.json")).unwrap();
    root
}

#[test]
fn damaged_recipes_are_refused_or_read_whole() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("recipe.toml");
    refused_or_read(&path, RECIPE.as_bytes(), |path| {
        let config = TrainConfig::read(path, &[])?;
        // What is read back is the same recipe.
        let again = TrainConfig::parse(path, &config.to_toml(), &[])?;
        assert_eq!(again.to_toml(), config.to_toml());
        // And its sizes are those of a network, or refused.
        config
            .model(&[2], 0)
            .and_then(|model| config.cost(&model))
            .map(drop)
    });
}

#[test]
fn damaged_weights_are_refused_or_read_whole() {
    let folder = tempfile::tempdir().unwrap();
    let path = run(folder.path()).join("model.safetensors");
    let header = weights::header(&path).unwrap();
    let bytes = fs::read(&path).unwrap();
    refused_or_read(&path, &bytes, |path| {
        Model::load(path, Device::Cpu).map(drop)
    });
    // The metadata, past the hash.
    refused_or_read(&path, &bytes[..bytes.len().min(3000)], |path| {
        weights::header(path).map(drop)
    });
    let recipe = header.metadata["recipe"].clone();
    let place = folder.path().join("metadata");
    refused_or_read(&place, recipe.as_bytes(), |path| {
        let mut metadata = header.metadata.clone();
        let text = String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned();
        metadata.insert("recipe".to_owned(), text.clone());
        metadata.insert("class_names".to_owned(), text);
        class_names_of(&metadata);
        recipe_of(path, &metadata).map(drop)
    });
}

#[test]
fn damaged_checkpoints_and_bundles_are_refused_or_read_whole() {
    let folder = tempfile::tempdir().unwrap();
    let root = run(folder.path());
    let checkpoint = root.join("checkpoints/step-00000006");
    for name in ["state.json", "manifest.json"] {
        let path = checkpoint.join(name);
        let bytes = fs::read(&path).unwrap();
        refused_or_read(&path, &bytes, |_| Checkpoint::read(&checkpoint).map(drop));
    }
    let bundle = root.join("crash-1.json");
    let bytes = fs::read(&bundle).unwrap();
    refused_or_read(&bundle, &bytes, |path| CrashBundle::read(path).map(drop));
    let lines = root.join("metrics.jsonl");
    let bytes = fs::read(&lines).unwrap();
    refused_or_read(&lines, &bytes, |path| {
        let history = metrics::read(path)?;
        match history.damaged_lines.is_empty() {
            true => Ok(()),
            false => Err(TrainError::NoCheckpoint {
                path: path.to_owned(),
            }),
        }
    });
}

#[test]
fn damaged_configurations_of_a_vae_are_refused_or_read_whole() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.json");
    let text = r#"{ "_class_name": "AutoencoderKL", "in_channels": 3, "out_channels": 3, "latent_channels": 4,
        "block_out_channels": [8, 16], "layers_per_block": 1, "norm_num_groups": 4, "scaling_factor": 0.18215 }"#;
    fs::write(&path, text).unwrap();
    VaeConfig::read(&path).unwrap();
    refused_or_read(&path, text.as_bytes(), |path| {
        VaeConfig::read(path).map(drop)
    });
}
