//! Averages put together from checkpoints, beside the same averages that training kept.

mod common;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use common::recipe;
use meanflow_torch::{Device, Kind, Tensor, weights};
use meanflow_train::config::Decay;
use meanflow_train::{PostHocEma, Silent, TrainError, Trainer, Wanted, post_hoc_ema, train};

/// A run of forty steps that keeps averages of decay 0.9, 0.5 and, to compare with, 0.8.
fn run(root: &Path, overrides: &[&str]) {
    let common = [
        "training.steps=40",
        "ema.decays=[0.9, 0.5, 0.8]",
        "ema.warmup=false",
    ];
    let config = recipe(&[&common, overrides].concat());
    train(
        config,
        root,
        Device::Cpu,
        &AtomicBool::new(false),
        &mut Silent,
    )
    .unwrap();
}

fn put_together(root: &Path, step: Option<u64>, decay: f64) -> Result<PostHocEma, TrainError> {
    let wanted = Wanted::Decay(Decay::new(decay).unwrap());
    post_hoc_ema(root, step, wanted, &root.join("ema.safetensors"))
}

/// The square of the Euclidean distance between the weights of two files.
fn squared_distance(one: &Path, other: &Path) -> f64 {
    let [one, other]: [BTreeMap<String, Tensor>; 2] =
        [one, other].map(|path| weights::read(path).unwrap());
    assert!(one.keys().eq(other.keys()));
    let pairs = one.values().zip(other.values());
    pairs
        .map(|(one, other)| {
            (one - other)
                .to_kind(Kind::Double)
                .square()
                .sum(Kind::Double)
                .double_value(&[])
        })
        .sum()
}

fn distance(one: &Path, other: &Path) -> f64 {
    squared_distance(one, other).sqrt()
}

#[test]
fn an_average_that_is_there_is_found_again() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("run");
    run(
        &root,
        &["training.checkpoint_every=10", "checkpoints.keep_every=10"],
    );
    let ema = put_together(&root, None, 0.8).unwrap();
    assert_eq!((ema.step, ema.name.as_str()), (40, "0.8"));
    assert!(ema.profile_error < 1e-6, "{}", ema.profile_error);
    let stored = root.join("checkpoints/step-00000040/ema-0.8.safetensors");
    // Coefficients are exact to the ridge of the least squares, 1e-12 times at most 1e3.
    assert!(distance(&root.join("ema.safetensors"), &stored) < 1e-6);
    let metadata = weights::header(&root.join("ema.safetensors"))
        .unwrap()
        .metadata;
    assert_eq!(metadata["ema_decay"], "0.8");
    assert!(metadata.contains_key("recipe"));
    // And the one of an earlier checkpoint.
    put_together(&root, Some(20), 0.8).unwrap();
    let stored = root.join("checkpoints/step-00000020/ema-0.8.safetensors");
    assert!(distance(&root.join("ema.safetensors"), &stored) < 1e-6);
}

/// With `Δp` the difference of the profiles, which adds up to 0, the averages are `Σ Δp(s) (θ_s − θ_T)` apart: by Cauchy and Schwarz
/// at most `‖Δp‖ (Σ ‖θ_s − θ_T‖²)^½`.
#[test]
fn an_average_that_was_not_kept_is_as_near_as_its_profile() {
    let folder = tempfile::tempdir().unwrap();
    let [with, first] = ["with", "first.safetensors"].map(|name| folder.path().join(name));
    run(
        &with,
        &["training.checkpoint_every=1", "checkpoints.keep_every=1"],
    );
    let at =
        |step: u64, name: &str| with.join(format!("checkpoints/step-{step:08}/{name}.safetensors"));
    let stored = at(40, "ema-0.8");
    // θ_0 is an average that has followed nothing yet.
    let config = recipe(&[]);
    let data = config.data.load(config.seed).unwrap();
    Trainer::new(config, data, Device::Cpu)
        .unwrap()
        .write_weights(&first)
        .unwrap();
    let spread = (1..40).map(|step| squared_distance(&at(step, "model"), &at(40, "model")));
    let spread = (spread.sum::<f64>() + squared_distance(&first, &at(40, "model"))).sqrt();
    // ‖p‖² of decay d is (1 − d)² Σ d^2k, k < T, and d^2T of the beginning.
    let d = 0.8_f64;
    let norm = ((1.0 - d).powi(2) * (1.0 - d.powi(80)) / (1.0 - d * d) + d.powi(80)).sqrt();
    let mut errors = Vec::new();
    for every in ["1", "5", "20"] {
        let root = folder.path().join(every);
        let [often, kept] = ["training.checkpoint_every", "checkpoints.keep_every"]
            .map(|key| format!("{key}={every}"));
        run(&root, &["ema.decays=[0.9, 0.5]", &often, &kept]);
        let ema = put_together(&root, None, d).unwrap();
        let apart = distance(&root.join("ema.safetensors"), &stored);
        // Weights of f32 are rounded to 6e-8 of themselves forty times; their norm is below 100.
        assert!(
            apart <= ema.profile_error * norm * spread + 1e-4,
            "{every}: {apart}, {}",
            ema.profile_error
        );
        errors.push(ema.profile_error);
    }
    // All weights are there: the average itself. Of fewer checkpoints it is further away.
    assert!(
        errors[0] < 1e-6 && errors.is_sorted() && errors[2] < 0.5,
        "{errors:?}"
    );
}

#[test]
fn other_averages_on_the_way_and_missing_checkpoints_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("run");
    let nothing = put_together(&root, None, 0.8);
    assert!(matches!(nothing, Err(TrainError::NoWeights { .. })));
    run(&root, &["training.checkpoint_every=20"]);
    let missing = put_together(&root, Some(30), 0.8).unwrap_err().to_string();
    assert!(
        missing.contains("after step 30") && missing.contains("40, 20"),
        "{missing}"
    );
    // The recipe of a checkpoint is in its state, which its manifest guards: a changed one is damage.
    let state = root.join("checkpoints/step-00000020/state.json");
    let text = std::fs::read_to_string(&state).unwrap();
    std::fs::write(&state, text.replace("0.9", "0.7")).unwrap();
    assert!(matches!(
        put_together(&root, None, 0.8),
        Err(TrainError::NoneWhole { .. })
    ));
}
