//! What is said while a command works, where there is no terminal.

use std::fs;

use serde_json::Value;

use crate::support::Scene;

/// Standard error of a command that ends well.
fn said(scene: &Scene, arguments: &[&str], filter: &str) -> String {
    let mut command = scene.command(arguments);
    let output = command.env("RUST_LOG", filter).output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{text}");
    text
}

#[test]
fn a_run_says_its_first_and_last_step_with_their_times_and_logs_them() {
    let scene = Scene::new();
    let text = said(&scene, &["train", &scene.recipe()], "");
    let steps: Vec<&str> = text
        .lines()
        .filter(|line| line.contains("Z step "))
        .collect();
    assert!(
        steps.first().unwrap().contains(" step 1/20 · 5 %"),
        "{text}"
    );
    assert!(
        steps.last().unwrap().contains(" step 20/20 · 100 %"),
        "{text}"
    );
    // A run of a second has no third line, unless the machine is very slow.
    assert!(steps.len() <= 3, "{text}");
    assert!(text.contains(" GB · v_loss "), "{text}");
    let log = fs::read_to_string(scene.path("runs/tiny/log.txt")).unwrap();
    for line in ["info  ", "parameters, ", "step 20/20", "checkpoint: "] {
        assert!(log.contains(line), "{line}: {log}");
    }
    // A second start adds to the log.
    said(&scene, &["train", "tiny.toml"], "");
    let longer = fs::read_to_string(scene.path("runs/tiny/log.txt")).unwrap();
    assert!(
        longer.starts_with(&log) && longer.contains("already finished"),
        "{longer}"
    );
}

#[test]
fn every_line_is_an_object_if_that_is_asked_for() {
    let scene = Scene::new();
    let train = ["train", &scene.recipe(), "--log-format", "json"];
    let text = said(&scene, &train, "");
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert!(
        lines
            .iter()
            .all(|line| line["time"].is_string() && line["message"].is_string())
    );
    let last = lines.iter().rfind(|line| line["steps"] == 20).unwrap();
    assert_eq!(
        (&last["step"], &last["level"]),
        (&20.into(), &"info".into())
    );
    assert!(last["v_loss"].as_f64().unwrap() > 0.0);
}

#[test]
fn a_level_leaves_out_what_matters_less() {
    let scene = Scene::new();
    assert_eq!(said(&scene, &["train", &scene.recipe()], "warn"), "");
    assert!(!said(&scene, &["train", "tiny.toml", "--out", "b"], "").is_empty());
}
