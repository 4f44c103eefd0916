//! A run that is stopped and gone on with ends with the same bits as one that is not.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use meanflow_data::custom::{self, DatasetBuilder};
use meanflow_data::{DataError, Dataset, MemoryDataset};
use meanflow_torch::Device;
use meanflow_train::{
    Checkpoint, Checkpoints, Event, Observer, Outcome, Resume, RunOptions, Silent, TrainConfig,
    TrainError, Trainer, fingerprint, metrics, train, train_with,
};
use serde::Deserialize;
use serde_json::Value;

mod common;

use common::{StopAt, recipe};

fn run(root: &Path) -> Result<Outcome, TrainError> {
    train(
        recipe(&[]),
        root,
        Device::Cpu,
        &AtomicBool::new(false),
        &mut Silent,
    )
}

fn run_until(root: &Path, step: u64) {
    let stop = AtomicBool::new(false);
    let outcome = train(
        recipe(&[]),
        root,
        Device::Cpu,
        &stop,
        &mut StopAt { step, stop: &stop },
    )
    .unwrap();
    assert_eq!(outcome, Outcome::Stopped(step));
}

/// The hashes of the files of the last checkpoint and of the run that must not depend on how it went.
fn results(root: &Path) -> BTreeMap<String, String> {
    let checkpoint = root.join("checkpoints/step-00000020");
    let names = ["model", "ema-0.9", "ema-0.5", "optimizer"];
    let mut files: Vec<PathBuf> = names
        .iter()
        .map(|name| checkpoint.join(format!("{name}.safetensors")))
        .collect();
    files.extend(
        [
            "model.safetensors",
            "config.toml",
            "samples/step-000020.png",
        ]
        .map(|name| root.join(name)),
    );
    let of_run = |file: &PathBuf| file.strip_prefix(root).unwrap().display().to_string();
    files
        .iter()
        .map(|file| (of_run(file), fingerprint(file).unwrap().1))
        .collect()
}

/// The metrics without their wall-clock times.
fn losses(root: &Path) -> Vec<(u64, u64, u64)> {
    let records = metrics::read(&root.join("metrics.jsonl")).unwrap();
    assert!(records.damaged_lines.is_empty());
    records
        .records
        .iter()
        .map(|r| (r.step, r.loss.to_bits(), r.grad_norm.to_bits()))
        .collect()
}

#[test]
fn stopping_anywhere_changes_no_bit() {
    let folder = tempfile::tempdir().unwrap();
    let whole = folder.path().join("whole");
    assert_eq!(run(&whole).unwrap(), Outcome::Finished);
    // Between checkpoints, on one, and right after the first step.
    for stops in [vec![8], vec![12], vec![1, 2, 19]] {
        let parts = folder.path().join(format!("parts-{stops:?}"));
        for &step in &stops {
            run_until(&parts, step);
        }
        assert_eq!(run(&parts).unwrap(), Outcome::Finished);
        assert_eq!(results(&parts), results(&whole), "stopped at {stops:?}");
        assert_eq!(losses(&parts), losses(&whole), "stopped at {stops:?}");
    }
}

#[test]
fn a_damaged_checkpoint_costs_steps_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let (whole, parts) = (folder.path().join("whole"), folder.path().join("parts"));
    run(&whole).unwrap();
    run_until(&parts, 15);
    let damaged = parts.join("checkpoints/step-00000015/optimizer.safetensors");
    let mut bytes = fs::read(&damaged).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    fs::write(&damaged, bytes).unwrap();
    run(&parts).unwrap();
    assert_eq!(results(&parts), results(&whole));
    assert_eq!(losses(&parts), losses(&whole));
}

#[test]
fn a_finished_run_is_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    run(folder.path()).unwrap();
    let before = results(folder.path());
    assert_eq!(run(folder.path()).unwrap(), Outcome::Finished);
    assert_eq!(results(folder.path()), before);
}

#[test]
fn another_recipe_is_refused_by_its_keys() {
    let folder = tempfile::tempdir().unwrap();
    run_until(folder.path(), 7);
    let go_on = |overrides: &[&str]| {
        train(
            recipe(overrides),
            folder.path(),
            Device::Cpu,
            &AtomicBool::new(false),
            &mut Silent,
        )
    };
    let error = go_on(&["lr.peak=0.5", "training.batch_size=16"])
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("lr.peak: was 0.01, is 0.5") && error.contains("training.batch_size"),
        "{error}"
    );
    assert!(!error.contains("beta1"), "{error}");
    assert!(
        fs::read_to_string(folder.path().join("config.toml"))
            .unwrap()
            .contains("peak = 0.01")
    );
    go_on(&["training.checkpoint_every=5", "sampling.grid=[2, 8]"]).unwrap();
}

fn run_with(root: &Path, options: &RunOptions) -> Result<Outcome, TrainError> {
    let stop = AtomicBool::new(false);
    train_with(recipe(&[]), root, Device::Cpu, options, &stop, &mut Silent)
}

/// Points of the plane from a file of bytes.
#[derive(Deserialize)]
struct Bytes {
    path: PathBuf,
}

impl DatasetBuilder for Bytes {
    fn load(self, _seed: u64) -> Result<Box<dyn Dataset>, DataError> {
        let bytes = fs::read(self.path).unwrap();
        let values = bytes.into_iter().map(|byte| f32::from(byte) / 255.0);
        let data = MemoryDataset::from_values(values.collect(), vec![2], Vec::new(), 0)?;
        Ok(Box::new(data))
    }
}

#[test]
fn data_that_changed_between_two_starts_are_refused() {
    custom::register::<Bytes>("bytes").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (path, root) = (folder.path().join("data"), folder.path().join("run"));
    let data = format!(
        "data={{ kind = \"custom\", name = \"bytes\", conditional = false, config = {{ path = {path:?} }} }}"
    );
    let constant = "lr={ schedule = \"constant\", peak = 1e-3, warmup_steps = 0 }";
    let train = |steps: u64, allowed: &[&str]| {
        let config = recipe(&[&data, constant, &format!("training.steps={steps}")]);
        let options = RunOptions {
            allow_changes: allowed.iter().map(ToString::to_string).collect(),
            ..RunOptions::default()
        };
        let stop = AtomicBool::new(false);
        train_with(config, &root, Device::Cpu, &options, &stop, &mut Silent)
    };
    let mut bytes: Vec<u8> = (0..200).collect();
    fs::write(&path, &bytes).unwrap();
    train(6, &[]).unwrap();
    bytes[77] += 1;
    fs::write(&path, &bytes).unwrap();
    let error = train(12, &["training.steps"]).unwrap_err();
    assert!(matches!(error, TrainError::DataChanged { .. }), "{error}");
    let checkpoints = Checkpoints::new(root.join("checkpoints"));
    assert_eq!(checkpoints.steps().unwrap(), [6]);
    train(12, &["training.steps", "data"]).unwrap();
    assert_eq!(checkpoints.steps().unwrap(), [12, 6]);
}

/// A later version of the program has trained here: the checkpoint before its own is no place to go on from.
#[test]
fn a_checkpoint_of_a_later_version_is_not_trained_over() {
    let folder = tempfile::tempdir().unwrap();
    run_until(folder.path(), 13);
    let newest = folder.path().join("checkpoints/step-00000013");
    let manifest = newest.join("manifest.json");
    let mut value: Value = serde_json::from_slice(&fs::read(&manifest).unwrap()).unwrap();
    value["format_version"] = 99.into();
    value.as_object_mut().unwrap().remove("manifest_sha256");
    let sealed = folder.path().join("sealed");
    fs::write(&sealed, value.to_string()).unwrap();
    value["manifest_sha256"] = fingerprint(&sealed).unwrap().1.into();
    fs::remove_file(&sealed).unwrap();
    fs::write(&manifest, value.to_string()).unwrap();
    let error = run(folder.path()).unwrap_err();
    let TrainError::Newer { path, version } = &error else {
        panic!("{error}");
    };
    assert_eq!((path, *version), (&newest, 99));
    let steps = Checkpoints::new(folder.path().join("checkpoints")).steps();
    assert_eq!(steps.unwrap(), [13, 12, 6]);
}

#[test]
fn a_run_goes_on_from_where_it_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let (whole, again, copy) = (
        folder.path().join("whole"),
        folder.path().join("again"),
        folder.path().join("copy"),
    );
    run(&whole).unwrap();
    let from = |path: PathBuf| RunOptions {
        resume: Resume::From(path),
        ..RunOptions::default()
    };
    let never = RunOptions {
        resume: Resume::Never,
        ..RunOptions::default()
    };
    assert!(matches!(
        run_with(&whole, &never),
        Err(TrainError::NotNew { steps, .. }) if steps == [20, 18, 12]
    ));
    run_with(&again, &never).unwrap();
    // From a checkpoint of another run, twice: the second time it goes on with its own.
    for _ in 0..2 {
        run_with(&copy, &from(whole.join("checkpoints/step-00000012"))).unwrap();
    }
    // From an earlier checkpoint of its own.
    run_with(&again, &from(again.join("checkpoints/step-00000012"))).unwrap();
    assert!(again.join("checkpoints/superseded-step-00000018").exists());
    assert_eq!(results(&copy), results(&whole));
    assert_eq!(results(&again), results(&whole));
    assert_eq!(losses(&again), losses(&whole));
    let nothing = run_with(&folder.path().join("x"), &from(folder.path().join("y")));
    assert!(matches!(nothing, Err(TrainError::NoCheckpoint { .. })));
}

#[test]
fn checkpoints_beside_those_of_no_account_are_kept_as_asked() {
    let folder = tempfile::tempdir().unwrap();
    let config = recipe(&["checkpoints={ keep_last = 1, keep_every = 6 }"]);
    let stop = AtomicBool::new(false);
    train(config, folder.path(), Device::Cpu, &stop, &mut Silent).unwrap();
    let steps = Checkpoints::new(folder.path().join("checkpoints")).steps();
    assert_eq!(steps.unwrap(), [20, 18, 12, 6]);
}

/// Checkpoints in the layouts of earlier versions, of a run of six steps. They are never made again.
#[test]
fn checkpoints_of_earlier_versions_are_gone_on_with() {
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/checkpoints");
    for layout in ["format-1", "format-2"] {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("run");
        let copy = root.join("checkpoints/step-00000006");
        fs::create_dir_all(&copy).unwrap();
        for entry in fs::read_dir(kept.join(layout)).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), copy.join(entry.file_name())).unwrap();
        }
        let state = Checkpoint::read(&copy).unwrap().state;
        assert_eq!(state.step, 6);
        let longer = ["training.steps=8".to_owned()];
        let config = TrainConfig::parse(&copy, &state.recipe, &longer).unwrap();
        let options = RunOptions {
            allow_changes: vec!["training.steps".to_owned()],
            ..RunOptions::default()
        };
        let stop = AtomicBool::new(false);
        let outcome = train_with(config, &root, Device::Cpu, &options, &stop, &mut Silent);
        assert_eq!(outcome.unwrap(), Outcome::Finished, "{layout}");
        let steps = Checkpoints::new(root.join("checkpoints")).steps();
        assert_eq!(steps.unwrap(), [8, 6], "{layout}");
    }
}

#[test]
fn what_killed_processes_left_is_removed() {
    let folder = tempfile::tempdir().unwrap();
    run_until(folder.path(), 8);
    // Linux gives no process such a number.
    let left = [
        ".model.safetensors.partial-1073741824",
        ".loss.svg.1073741824-3.tmp",
    ];
    for name in left {
        fs::write(folder.path().join(name), "half").unwrap();
    }
    run(folder.path()).unwrap();
    assert!(left.iter().all(|name| !folder.path().join(name).exists()));
}

/// Takes files away while the run has them open.
struct Thief<'a>(&'a Path, u64);

impl Observer for Thief<'_> {
    fn notice(&mut self, event: Event<'_>) {
        if let Event::Stepped(record) = event
            && record.step == self.1
        {
            for name in ["metrics.jsonl", ".lock"] {
                fs::remove_file(self.0.join(name)).unwrap();
            }
        }
    }
}

#[test]
fn files_that_are_taken_away_while_training_are_made_anew() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let stop = AtomicBool::new(false);
    train(recipe(&[]), root, Device::Cpu, &stop, &mut Thief(root, 8)).unwrap();
    assert!(root.join(".lock").exists());
    // Those after the next checkpoint, at 12.
    assert_eq!(losses(root).first().unwrap().0, 13);
    assert_eq!(run(root).unwrap(), Outcome::Finished);
}

/// Puts a file where the checkpoints should go, and takes it away later.
struct Obstacle<'a> {
    root: &'a Path,
    failed: Vec<u64>,
}

impl Observer for Obstacle<'_> {
    fn notice(&mut self, event: Event<'_>) {
        let path = self.root.join("checkpoints");
        match event {
            Event::Stepped(record) if record.step == 2 => fs::write(path, "").unwrap(),
            Event::Stepped(record) if record.step == 19 => fs::remove_file(path).unwrap(),
            Event::SaveFailed { step, .. } => self.failed.push(step),
            _ => {}
        }
    }
}

#[test]
fn a_save_that_fails_ends_the_run_or_warns_as_asked() {
    for (policy, outcome) in [("stop", None), ("warn", Some(Outcome::Finished))] {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let config = recipe(&[&format!("checkpoints={{ on_save_error = \"{policy}\" }}")]);
        let stop = AtomicBool::new(false);
        let mut obstacle = Obstacle {
            root,
            failed: Vec::new(),
        };
        let ended = train(config, root, Device::Cpu, &stop, &mut obstacle);
        assert_eq!(ended.ok(), outcome);
        // Those after 6 and 12 steps have ended when the obstacle goes, that after 18 may have begun.
        let told = obstacle.failed.len();
        assert!(
            if policy == "warn" {
                told >= 2
            } else {
                told == 0
            },
            "{told}"
        );
    }
}

#[test]
fn the_loss_falls() {
    let config = recipe(&[
        "training.steps=300",
        "training.batch_size=256",
        "network.width=64",
        "loss.norm_p=0.0",
    ]);
    let data = config.data.load(config.seed).unwrap();
    let mut trainer = Trainer::new(config, data, Device::Cpu).unwrap();
    let losses: Vec<f64> = (0..300).map(|_| trainer.step().unwrap().v_loss).collect();
    let mean = |losses: &[f64]| losses.iter().sum::<f64>() / losses.len() as f64;
    // Predicting 0 costs 4: variance 1 of data and of noise in two dimensions. This network gets to 0.90 of where it
    // begins; the means over thirty batches of 256 have a standard error of 0.01 of it.
    let (begin, end) = (mean(&losses[..30]), mean(&losses[270..]));
    assert!(end < 0.95 * begin, "{begin} to {end}");
}
