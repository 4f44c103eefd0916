//! What is not finite reaches no weight, no average and no file, and a run that diverges goes back before it ends.

use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use meanflow_torch::{Device, Model, Tensor};
use meanflow_train::{
    Checkpoints, RunOptions, TrainConfig, TrainError, Trainer, metrics, replay, train, train_with,
};

mod common;
#[path = "common/rollbacks.rs"]
mod rollbacks;

use common::{StopAt, recipe};
use rollbacks::Rollbacks;

/// A run that is sound until step 12, then goes on at this rate, and must end by itself: why, and how it went back.
fn diverged(root: &Path, compute: &str, rate: &str) -> (TrainError, Rollbacks) {
    let stop = AtomicBool::new(false);
    let mut until = StopAt {
        step: 12,
        stop: &stop,
    };
    let sound = recipe(&["training.steps=60", compute]);
    train(sound, root, Device::Cpu, &stop, &mut until).unwrap();
    let config = recipe(&["training.steps=60", compute, rate]);
    let options = RunOptions {
        allow_changes: vec!["lr.peak".into()],
        ..RunOptions::default()
    };
    let (stop, mut rollbacks) = (AtomicBool::new(false), Rollbacks::default());
    let ended = train_with(config, root, Device::Cpu, &options, &stop, &mut rollbacks);
    (ended.unwrap_err(), rollbacks)
}

/// After a sound checkpoint the rate is so high that the loss is no number: the run goes back three times, then it ends.
#[test]
fn a_run_that_diverges_goes_back_before_it_gives_up() {
    let folder = tempfile::tempdir().unwrap();
    let (error, rollbacks) = diverged(folder.path(), "seed=3", "lr.peak=1e30");
    assert!(matches!(error, TrainError::NotFinite { .. }), "{error}");
    let back: Vec<_> = rollbacks
        .0
        .iter()
        .map(|(_, to, times)| (*to, *times))
        .collect();
    assert_eq!(back, [(12, 1), (12, 2), (12, 3)]);
    let steps = Checkpoints::new(folder.path().join("checkpoints")).steps();
    assert_eq!(steps.unwrap()[0], 12);
}

/// Bit for bit, also where the step itself left no finite weights.
#[test]
fn a_divergence_can_be_done_again() {
    for (rate, last) in [("lr.peak=1e30", 23), ("lr.peak=1e300", 13)] {
        for option in ["compute.async_metrics=false", "compute.async_metrics=true"] {
            let folder = tempfile::tempdir().unwrap();
            let (error, _) = diverged(folder.path(), option, rate);
            for number in 1..=4 {
                let bundle = folder.path().join(format!("crash-{number}.json"));
                let replay = replay(&bundle, Device::Cpu).unwrap();
                assert_eq!(replay.differs_at, None, "{replay:?}");
                assert_eq!(replay.rows.len(), 32);
                assert_eq!(replay.bundle.data_offset, (number - 1) << 32);
                let again: Vec<u64> = replay.steps.iter().map(|one| one.step).collect();
                assert_eq!(again, (13..=last).collect::<Vec<_>>());
                assert_eq!(replay.broken.is_empty(), last == 23);
                assert_eq!(replay.bundle.reason, error.to_string());
            }
            assert!(!folder.path().join("crash-5.json").exists());
        }
    }
}

#[test]
fn other_numbers_than_those_of_the_run_are_noticed() {
    let folder = tempfile::tempdir().unwrap();
    diverged(folder.path(), "seed=3", "lr.peak=1e300");
    let bundle = folder.path().join("crash-1.json");
    let text = fs::read_to_string(&bundle).unwrap();
    for (from, to) in [
        ("norm_eps = 0.01", "norm_eps = 0.02"),
        ("\"dropped\": false", "\"dropped\": true"),
    ] {
        assert!(text.contains(from), "{text}");
        fs::write(&bundle, text.replacen(from, to, 1)).unwrap();
        let replay = replay(&bundle, Device::Cpu).unwrap();
        assert_eq!(replay.differs_at, Some(13), "{to}");
    }
}

/// The rate is infinite in f32: the first update overflows, along a gradient that is finite. Whether the metrics of a
/// step are waited for makes no difference.
#[test]
fn weights_that_overflow_are_never_written_and_end_a_run_at_the_same_step() {
    for option in ["compute.async_metrics=false", "compute.async_metrics=true"] {
        let folder = tempfile::tempdir().unwrap();
        let (error, rollbacks) = diverged(folder.path(), option, "lr.peak=1e300");
        assert!(
            matches!(error, TrainError::WeightsNotFinite { step: 13 }),
            "{error}"
        );
        assert_eq!(rollbacks.0, [(13, 12, 1), (13, 12, 2), (13, 12, 3)]);
        let checkpoints = Checkpoints::new(folder.path().join("checkpoints"));
        assert_eq!(checkpoints.steps().unwrap(), [12, 6]);
        let weights = folder.path().join("model.safetensors");
        // A reader refuses weights that are not finite.
        Model::load(&weights, Device::Cpu).unwrap();
        let logged = metrics::read(&folder.path().join("metrics.jsonl")).unwrap();
        assert_eq!(logged.records.last().unwrap().step, 12);
    }
}

#[test]
fn averages_do_not_follow_weights_that_overflow() {
    for options in [
        &["compute.async_metrics=false"][..],
        &["compute.async_metrics=true"],
        &["compute.async_metrics=true", "compute.cuda_graph=true"],
        &["training.microbatches=4"],
    ] {
        let rate = "lr={ schedule = \"constant\", peak = 1e300, warmup_steps = 0 }";
        let mut trainer = trainer(recipe(&[&[rate], options].concat()));
        for _ in 0..3 {
            // Without asynchronous metrics the step is refused when it is asked for.
            trainer.advance().unwrap();
        }
        let ended = trainer.metrics();
        assert!(matches!(
            ended,
            Err(TrainError::WeightsNotFinite { step: 1 })
        ));
        let largest = |model: &Model| model.parameters().largest_magnitude().double_value(&[]);
        assert!(!largest(trainer.model()).is_finite());
        assert!(largest(trainer.average().0) < 10.0, "{options:?}");
    }
}

#[test]
fn metrics_of_sound_steps_are_told_before_the_step_that_ends_training() {
    let mut trainer = trainer(recipe(&["compute.async_metrics=true"]));
    for _ in 0..3 {
        trainer.advance().unwrap();
    }
    let weight = trainer.model().parameters().tensors()[0].shallow_clone();
    let _ = tch::no_grad(|| weight.shallow_clone().fill_(f64::NAN));
    for _ in 0..2 {
        trainer.advance().unwrap();
    }
    let sound: Vec<u64> = trainer
        .metrics()
        .unwrap()
        .iter()
        .map(|one| one.step)
        .collect();
    assert_eq!(sound, [1, 2, 3]);
    assert!(matches!(
        trainer.metrics(),
        Err(TrainError::WeightsNotFinite { step: 4 })
    ));
}

fn trainer(config: TrainConfig) -> Trainer {
    let data = config.data.load(config.seed).unwrap();
    Trainer::new(config, data, Device::Cpu).unwrap()
}

#[test]
fn a_loss_that_is_not_finite_reaches_no_weight_and_ends_the_run() {
    for metrics in ["compute.async_metrics=false", "compute.async_metrics=true"] {
        not_finite(recipe(&[metrics]));
    }
}

fn not_finite(config: TrainConfig) {
    let mut trainer = trainer(config);
    trainer.step().unwrap();
    let poisoned = trainer.model().parameters().tensors()[0].shallow_clone();
    let kept = poisoned.detach().copy();
    // Finite, and its square is not.
    let _ = tch::no_grad(|| poisoned.shallow_clone().fill_(1e30));
    let others = |trainer: &Trainer| -> Vec<Tensor> {
        let tensors = trainer.model().parameters().tensors();
        let average = trainer.average().0.parameters().tensors();
        tensors[1..]
            .iter()
            .chain(&average)
            .map(|tensor| tensor.detach().copy())
            .collect()
    };
    let before = others(&trainer);
    for skipped in 1..10 {
        assert!(!trainer.step().unwrap().is_finite);
        assert_eq!(trainer.skipped_in_row(), skipped);
    }
    assert!(matches!(
        trainer.step(),
        Err(TrainError::NotFinite { skipped: 10, .. })
    ));
    assert!(
        others(&trainer)
            .iter()
            .zip(&before)
            .all(|(one, other)| one == other)
    );
    tch::no_grad(|| poisoned.shallow_clone().copy_(&kept));
    assert!(trainer.step().unwrap().is_finite);
    assert_eq!(trainer.skipped_in_row(), 0);
}
