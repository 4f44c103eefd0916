//! A network, a scheduler and a data set of one's own go through every command of a program that registers them.

use std::path::Path;
use std::process::{Command, Output};

use crate::support::{Scene, words};

const RECIPE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/custom_parts.toml");

/// Runs the example, which `cargo xtask test` builds before the tests, and `cargo nextest run` without `--all-targets` beside them.
fn run(scene: &Scene, arguments: &[&str]) -> Output {
    let program = Path::new(env!("CARGO_BIN_EXE_meanflow"));
    let program = program.with_file_name("examples").join("custom_parts");
    let mut command = Command::new(&program);
    let command = command.args(arguments).current_dir(scene.path("."));
    let output = command.env("OMP_NUM_THREADS", "1").output();
    output.unwrap_or_else(|error| panic!("{}: {error}", program.display()))
}

fn succeeds(scene: &Scene, arguments: &[&str]) -> String {
    let output = run(scene, arguments);
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn they_are_trained_sampled_evaluated_and_checked() {
    let scene = Scene::new();
    let steps = |steps: &'static str| {
        let mut arguments = vec!["train", RECIPE, "--out", "run"];
        for change in [steps, "lr.warmup_steps=1", "training.batch_size=16"] {
            arguments.extend(["--set", change]);
        }
        arguments
    };
    assert!(succeeds(&scene, &["validate", RECIPE]).contains("classes                2"));
    succeeds(&scene, &steps("training.steps=10"));
    // Network, scheduler and data are found again when the run goes on.
    succeeds(&scene, &steps("training.steps=12"));
    succeeds(
        &scene,
        &[
            "sample", "run", "--seeds", "0-3", "--class", "standing", "--out", "s.png",
        ],
    );
    assert!(scene.path("s.png").exists());
    let table = succeeds(
        &scene,
        &words("eval run --samples 64 --repeats 2 --steps 1"),
    );
    assert!(table.contains("fd_pixels"), "{table}");
    let info = succeeds(&scene, &["info", "run"]);
    assert!(
        info.contains("perceptron") && info.contains("early-noise"),
        "{info}"
    );
    // Dual numbers through the network, against libtorch's own forward mode and differences.
    succeeds(&scene, &["check", "run"]);
}

#[test]
fn sizes_that_describe_no_network_are_refused_with_their_key() {
    let scene = Scene::new();
    for (change, said) in [
        (
            "network.config.width=0",
            "config.width: expected 1 to 16384, got 0",
        ),
        ("network.config.wdth=1", "unknown field `wdth`"),
        ("network.name='mlp'", "has registered (perceptron)"),
        ("path.name='linear'", "has registered (early-noise)"),
        ("data.name='digits'", "has registered (stripes)"),
        ("data.config.side=0", "data.config"),
    ] {
        let output = run(&scene, &["validate", RECIPE, "--set", change]);
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(
            !output.status.success() && error.contains(said),
            "{change}: {error}"
        );
        assert!(!error.contains("panicked"), "{error}");
    }
}

#[test]
fn the_plain_command_says_that_it_does_not_know_them() {
    let scene = Scene::new();
    let error = scene.fails(3, &["validate", RECIPE]);
    assert!(
        error.contains("has registered none") && error.contains("custom_parts.toml:"),
        "{error}"
    );
    succeeds(
        &scene,
        &[
            "train",
            RECIPE,
            "--set",
            "training.steps=11",
            "--out",
            "run",
        ],
    );
    let error = scene.fails(5, &["sample", "run", "--seeds", "0", "--out", "s.png"]);
    assert!(
        error.contains("has registered none") && error.contains("perceptron"),
        "{error}"
    );
}
