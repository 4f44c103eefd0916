//! `meanflow train --init-from`.

use std::fs;

use meanflow_torch::weights;
use serde_json::Value;

use crate::support::{RECIPE, Scene};

/// One step that moves nothing, so that the weights at the end are those of the start.
const STILL: [&str; 6] = [
    "--set",
    "training.steps=1",
    "--set",
    "lr.peak=1e-30",
    "--set",
    "optimizer.weight_decay=0.0",
];

#[test]
fn a_run_begins_with_other_weights_and_says_what_it_took() {
    let scene = Scene::new();
    let first = scene.trained("first");
    let recipe = scene.recipe();
    let start = ["train", &recipe, "--init-from", "first", "--out", "second"];
    scene.succeeds(&[&start[..], &STILL].concat());
    let tensors = |path| weights::read(path).unwrap();
    let second = scene.path("second/model.safetensors");
    assert_eq!(tensors(&first), tensors(&second));
    let text = fs::read_to_string(scene.path("second/init.json")).unwrap();
    let report: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(report["weights"], "first/model.safetensors");
    let entries = report["tensors"].as_array().unwrap();
    assert_eq!(entries.len(), tensors(&first).len());
    assert!(
        entries
            .iter()
            .all(|entry| entry["outcome"]["kind"] == "taken")
    );
}

#[test]
fn a_start_that_does_not_fit_is_refused_with_a_way_out() {
    let scene = Scene::new();
    let first = scene.trained("first");
    let wider = RECIPE.replace("depth = 2", "depth = 3");
    let recipe = scene.file("deeper.toml", &wider);
    let first = first.to_str().unwrap();
    let start = ["train", &recipe, "--init-from", first];
    let error = scene.fails(5, &start);
    assert!(error.contains("missing: "), "{error}");
    assert!(error.contains("--init-partial"), "{error}");
    let partial = [&start[..], &["--init-partial"], &STILL].concat();
    let output = scene.command(&partial).output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{error}");
    assert!(error.contains("tensors taken\n  missing: "), "{error}");
    assert!(
        error.contains("note: the weights are of another network"),
        "{error}"
    );
    // The same command again goes on; what it began with does not matter any more.
    scene.succeeds(&partial);
}
