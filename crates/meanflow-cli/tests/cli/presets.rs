//! The recipes that come with the program, and trials of a recipe.

use std::fs;

use meanflow_train::config::PRESETS;
use serde_json::Value;

use crate::support::Scene;

#[test]
fn a_preset_is_printed_as_it_is_and_trains_by_its_name() {
    let scene = Scene::new();
    let list = scene.succeeds(&["new"]);
    for preset in PRESETS {
        assert!(list.contains(preset.name), "{list}");
    }
    let printed = scene.succeeds(&["new", "digits"]);
    assert_eq!(printed.trim_end(), PRESETS[0].text.trim_end());
    let mine = scene.file("mine.toml", &printed);
    let resolved = scene.succeeds(&["train", &mine, "-n"]);
    assert_eq!(
        resolved,
        scene.succeeds(&["train", "--preset", "digits", "-n"])
    );
    let error = scene.fails(2, &["train", "--preset", "digit"]);
    assert!(error.contains("'digits'"), "{error}");
    scene.fails(2, &["train", "--preset", "digits", &mine]);
    scene.fails(2, &["train"]);
}

#[test]
fn a_fast_run_tries_everything_and_keeps_nothing() {
    let scene = Scene::new();
    let recipe = scene.recipe();
    let train = ["train", &recipe, "--fast-dev-run"];
    let output = scene.command(&train).output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{error}");
    for what in ["samples: ", "checkpoint: "] {
        assert!(error.contains(what), "{error}");
    }
    let names = fs::read_dir(scene.path("."))
        .unwrap()
        .map(|entry| entry.unwrap().file_name());
    assert_eq!(names.collect::<Vec<_>>(), [recipe.as_str()]);
}

#[test]
fn three_steps_say_how_long_a_run_takes() {
    let scene = Scene::new();
    let measured = |steps: &str| -> Value {
        let text = scene.succeeds(&[
            "validate",
            &scene.recipe(),
            "--measure",
            "--json",
            "--set",
            steps,
        ]);
        serde_json::from_str(&text).unwrap()
    };
    let facts = measured("training.steps=7200");
    let number = |key: &str| facts[key].as_f64().unwrap();
    let (step, hours) = (
        number("measured_step_seconds"),
        number("measured_run_hours"),
    );
    assert!(step > 0.0);
    // Both have five digits.
    assert!((hours - step * 2.0).abs() < 1e-3 * hours, "{hours} {step}");
    assert!(number("measured_memory_mib") > 0.0);
}
