//! Proofs that a user can run, and the way in and out for official weights.

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::{Scene, words};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../meanflow-goldens/files")
        .join(name)
}

fn copied(scene: &Scene, name: &str) -> String {
    for ending in ["safetensors", "json"] {
        let file = format!("{name}.{ending}");
        fs::copy(golden(&file), scene.path(&file)).unwrap();
    }
    format!("{name}.safetensors")
}

#[test]
fn golden_files_pass_in_either_type() {
    let scene = Scene::new();
    let file = copied(&scene, "dit_official_a");
    for options in [&["--dtype", "f64"][..], &["--jvp", "forward-ad"]] {
        let report = scene.succeeds(&[&["check", "golden", &file], options].concat());
        assert!(report.contains("everything within tolerance"), "{report}");
        assert!(
            report.contains("pass") && !report.contains("FAIL"),
            "{report}"
        );
    }
}

#[test]
fn a_device_is_checked_and_a_golden_with_another_number_fails() {
    let scene = Scene::new();
    let file = copied(&scene, "adamw_ema_a");
    let folder = scene.path("").display().to_string();
    let line = format!("check device --device cpu --json --goldens {folder}");
    let arguments = words(&line);
    let lines = scene.succeeds(&arguments);
    let verdict = |line: &str| -> (String, String) {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        let text = |key: &str| line[key].as_str().unwrap().to_owned();
        (text("name"), text("verdict"))
    };
    let verdicts: Vec<_> = lines.lines().map(verdict).collect();
    assert!(verdicts.contains(&("golden adamw_ema_a, f32".to_owned(), "passed".to_owned())));
    assert!(verdicts.contains(&("graph against eager, f32".to_owned(), "skipped".to_owned())));
    let mut bytes = fs::read(scene.path(&file)).unwrap();
    let last = bytes.len() - 1;
    // The exponent of the last number of the file.
    bytes[last] ^= 0x02;
    fs::write(scene.path(&file), bytes).unwrap();
    let output = scene.command(&arguments).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let lines = String::from_utf8(output.stdout).unwrap();
    let failed: Vec<_> = lines
        .lines()
        .map(verdict)
        .filter(|(_, verdict)| verdict == "failed")
        .collect();
    assert!(!failed.is_empty() && failed.iter().all(|(name, _)| name.starts_with("golden")));
}

/// The kinds of the crates above meanflow-torch.
#[test]
fn metrics_have_goldens_too() {
    let scene = Scene::new();
    let file = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../meanflow-goldens/files/metrics/frechet_a.safetensors");
    let report = scene.succeeds(&["check", "golden", file.to_str().unwrap()]);
    assert!(report.contains("everything within tolerance"), "{report}");
}

#[test]
fn a_golden_file_with_another_number_fails() {
    let scene = Scene::new();
    let file = copied(&scene, "sampling_a");
    let mut bytes = fs::read(scene.path(&file)).unwrap();
    // The exponent of one number in the middle: a parameter, a noise or a result, all of which count.
    let middle = bytes.len() / 2 / 4 * 4 + 3;
    bytes[middle] ^= 0x02;
    fs::write(scene.path(&file), bytes).unwrap();
    let output = scene.command(&["check", "golden", &file]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stdout).unwrap().contains("FAIL"));
}

#[test]
fn files_that_are_no_goldens_are_refused() {
    let scene = Scene::new();
    scene.fails(5, &["check", "golden", "missing.safetensors"]);
    let file = copied(&scene, "dit_official_a");
    let other = fs::read_to_string(scene.path("dit_official_a.json")).unwrap();
    let other = other.replace("\"dit_official_a\"", "\"unheard_of\"");
    fs::write(scene.path("dit_official_a.json"), other).unwrap();
    let error = scene.fails(5, &["check", "golden", &file]);
    assert!(error.contains("of no known kind"), "{error}");
}

#[test]
fn routes_agree_on_a_recipe_and_on_trained_weights() {
    let scene = Scene::new();
    scene.trained("run");
    for target in ["tiny.toml", "run"] {
        let report = scene.succeeds(&["check", target]);
        assert!(report.contains("the exact routes agree"), "{report}");
        assert!(report.contains("double-backward"), "{report}");
    }
    scene.fails(2, &["check"]);
}

const IMPORT: [&str; 3] = ["convert", "import", "official.safetensors"];

/// A scene with a run of the digits recipe, made short; the recipe's path, and what makes it short.
fn short_digits(scene: &Scene) -> (String, [&'static str; 6]) {
    let digits = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs/digits.toml");
    let digits = digits.to_str().unwrap().to_owned();
    let short = [
        "training.steps=1",
        "network.depth=1",
        "training.batch_size=8",
    ];
    let short: [&str; 6] = std::array::from_fn(|i| if i % 2 == 0 { "--set" } else { short[i / 2] });
    scene.succeeds(&[&["train", &digits, "--out", "run"], &short[..]].concat());
    (digits, short)
}

#[test]
fn weights_survive_the_way_out_and_in() {
    let scene = Scene::new();
    let (digits, short) = short_digits(&scene);
    for layout in ["flax", "pytorch"] {
        let export = ["convert", "export", "run", "--layout", layout, "--out"];
        let report = scene.succeeds(&[&export[..], &["official.safetensors"]].concat());
        assert!(report.contains("qkv"), "{report}");
        let there = [&digits, "--out", "back.safetensors"];
        scene.succeeds(&[&IMPORT[..], &there, &short].concat());
        let picture = |model: &str| {
            scene.succeeds(&["sample", model, "--seeds", "0-3", "--out", "x.png"]);
            fs::read(scene.path("x.png")).unwrap()
        };
        assert_eq!(picture("run"), picture("back.safetensors"));
    }
}

#[test]
fn weights_of_another_network_are_not_converted() {
    let scene = Scene::new();
    let (digits, short) = short_digits(&scene);
    let export = ["convert", "export", "run", "--layout", "flax", "--out"];
    scene.succeeds(&[&export[..], &["official.safetensors"]].concat());
    let wider = words("--set network.width=64 --out x.safetensors");
    let error = scene.fails(5, &[&IMPORT[..], &[&digits], &wider, &short].concat());
    assert!(error.contains("expected shape"), "{error}");
    assert!(!scene.path("x.safetensors").exists());
}
