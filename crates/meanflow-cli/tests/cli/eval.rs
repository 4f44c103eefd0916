//! `meanflow eval`.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::support::Scene;

const DIGITS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../configs/digits.toml");

fn report(folder: &Path) -> Value {
    serde_json::from_slice(&fs::read(folder.join("report.json")).unwrap()).unwrap()
}

fn mean(report: &Value, way: usize, figure: &str) -> f64 {
    let mean = &report["ways"][way]["figures"][figure]["mean"];
    mean.as_f64()
        .unwrap_or_else(|| panic!("{figure}: {report}"))
}

#[test]
fn data_is_as_good_as_itself() {
    let scene = Scene::new();
    scene.succeeds(&["eval", DIGITS, "--ref", DIGITS, "--out", "r"]);
    let report = report(&scene.path("r"));
    // Of two equal sets of 64 features whose squares sum to hundreds; roundings of f64 through a square root.
    assert!(mean(&report, 0, "frechet").abs() < 1e-6);
    assert_eq!(
        (mean(&report, 0, "precision"), mean(&report, 0, "recall")),
        (1.0, 1.0)
    );
    // A classifier that was trained on labels smoothed by 0.05 is right when it gives its class 0.955 and the others 0.005 each: then
    // the score over ten balanced classes is 7.54. It is less sure of some.
    assert!((6.0..7.54).contains(&mean(&report, 0, "inception_score")));
    let classes = report["ways"][0]["classes"].as_array().unwrap();
    let counts: Vec<[u64; 2]> = classes
        .iter()
        .map(|pair| serde_json::from_value(pair.clone()).unwrap())
        .collect();
    assert_eq!(counts.iter().map(|[_, asked]| asked).sum::<u64>(), 1797);
    let found = counts.iter().map(|[found, _]| found).sum::<u64>();
    // The classifier names 97.5 % even of what it was not shown.
    assert!(found > 1760, "{counts:?}");
    assert_eq!(mean(&report, 0, "class_accuracy"), found as f64 / 1797.0);
    assert_eq!(report["memorisation"]["sample_to_data"], 0.0);
    assert!(report["laws"].is_null());
    let hash = report["protocol"]["features"]["file"]["sha256"]
        .as_str()
        .unwrap();
    assert_eq!(hash.len(), 64);
}

/// A run of a few steps on the digits.
fn train_digits(scene: &Scene) {
    let mut train = vec!["train", DIGITS, "--out", "run"];
    for change in ["network.depth=1", "network.width=32", "training.steps=4"] {
        train.extend(["--set", change]);
    }
    scene.succeeds(&train);
}

#[test]
fn a_run_is_evaluated_without_being_told_how() {
    let scene = Scene::new();
    train_digits(&scene);
    let arguments = [
        "eval",
        "run",
        "--samples",
        "70",
        "--repeats",
        "2",
        "--steps",
        "1,3",
        "--ode",
        "heun:2",
    ];
    let table = scene.succeeds(&arguments);
    for word in [
        "1 jump",
        "3 jumps",
        "ODE heun:2",
        "frechet",
        "class_accuracy",
    ] {
        assert!(table.contains(word), "{word}: {table}");
    }
    let report = report(&scene.path("run"));
    let evaluations: Vec<f64> = (0..3)
        .map(|way| report["ways"][way]["evaluations"].as_f64().unwrap())
        .collect();
    assert_eq!(evaluations, [1.0, 3.0, 4.0]);
    let frechet = &report["ways"][0]["figures"]["frechet"];
    assert_eq!(frechet["values"].as_array().unwrap().len(), 2);
    assert_eq!(
        report["protocol"]["seeds"],
        "0 to 139, in order, a part for each repetition"
    );
    assert_eq!(report["protocol"]["average"], "0.999");
    assert_eq!(report["laws"]["consistency"].as_array().unwrap().len(), 11);
    // The same seeds give the same figures.
    let again = scene.succeeds(&[&arguments[..], &["--json"]].concat());
    let again: Value = serde_json::from_str(&again).unwrap();
    assert_eq!(again["ways"], report["ways"]);
}

#[test]
fn a_page_has_all_parts_and_fetches_nothing() {
    let scene = Scene::new();
    train_digits(&scene);
    scene.succeeds(&[
        "eval",
        "run",
        "--samples",
        "70",
        "--repeats",
        "1",
        "--steps",
        "1,2",
    ]);
    let page = fs::read_to_string(scene.path("run/report.html")).unwrap();
    for part in [
        "Figures",
        "Classes",
        "Samples",
        "Nearest neighbours",
        "own laws",
        "Protocol",
    ] {
        assert!(page.contains(part), "{part}");
    }
    // Nothing is fetched: all pictures are in the page.
    assert!(!page.contains("src=\"http") && page.contains("data:image/png;base64,iVBOR"));
}

#[test]
fn archives_are_evaluated_and_what_does_not_fit_is_refused() {
    let scene = Scene::new();
    let model = scene.trained("points");
    let points = scene.fails(2, &["eval", model.to_str().unwrap(), "--out", "r"]);
    assert!(points.contains("samples of shape [2]"), "{points}");
    let nowhere = scene.fails(2, &["eval", DIGITS, "--ref", DIGITS]);
    assert!(nowhere.contains("--out DIR is needed"), "{nowhere}");
    let alone = scene.fails(2, &["eval", DIGITS, "--out", "r"]);
    assert!(alone.contains("--ref is needed"), "{alone}");
    let with = |option, value| {
        scene.fails(
            2,
            &["eval", DIGITS, "--ref", DIGITS, "--out", "r", option, value],
        )
    };
    let mode = with("--resize", "best");
    assert!(mode.contains("legacy_tf"), "{mode}");
    with("--steps", "0");
    let features = ["--features", "missing.safetensors"];
    scene.fails(
        5,
        &[
            &["eval", DIGITS, "--ref", DIGITS, "--out", "r"],
            &features[..],
        ]
        .concat(),
    );
    scene.file("pickle.npz", "not an archive");
    scene.fails(4, &["eval", DIGITS, "--ref", "pickle.npz", "--out", "r"]);
    scene.fails(4, &["eval", "missing", "--ref", DIGITS, "--out", "r"]);
    scene.file("file", "");
    scene.fails(2, &["eval", DIGITS, "--ref", DIGITS, "--out", "file"]);
    assert!(!scene.path("r").exists());
}
