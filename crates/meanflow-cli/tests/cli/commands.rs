//! The commands do what their help says.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::pictures::write_pictures;
use crate::support::{ENDLESS, Scene, words};

const DIGITS: [&str; 10] = [
    "--set",
    "data={ kind = \"digits\", conditional = true }",
    "--set",
    "network={ kind = \"dit\", patch = 4, width = 16, depth = 1, heads = 2, mlp_ratio = 2.0, embedding = \"th\" }",
    "--set",
    "sampling.nfe=[1]",
    "--set",
    "training.steps=3",
    "--out",
    "digits",
];

/// A checkout that was moved as a whole has its libtorch where it was, seen from the program.
#[test]
fn the_program_looks_for_libtorch_in_its_own_checkout() {
    let program = fs::read(env!("CARGO_BIN_EXE_meanflow")).unwrap();
    let place = b"$ORIGIN/../../.libtorch/lib";
    assert!(program.windows(place.len()).any(|bytes| bytes == place));
}

fn names(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).unwrap();
    entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

#[test]
fn a_run_leaves_what_the_help_says() {
    let scene = Scene::new();
    let said = scene.succeeds(&["train", &scene.recipe()]);
    assert!(said.contains("meanflow sample runs/tiny"), "{said}");
    let root = scene.path("runs/tiny");
    let mut there = names(&root);
    let events = there
        .iter()
        .find(|name| name.starts_with("events.out.tfevents."))
        .cloned();
    assert!(there.remove(&events.unwrap()));
    let expected = words(
        ".lock checkpoints config.toml data.json data.png log.txt loss.svg metrics.jsonl \
             model.safetensors recipe.toml run.json samples",
    );
    assert_eq!(there, expected.into_iter().map(str::to_owned).collect());
    assert_eq!(
        names(&root.join("samples")),
        ["step-000010.png", "step-000020.png"]
            .map(str::to_owned)
            .into()
    );
    assert_eq!(
        fs::read_to_string(root.join("metrics.jsonl"))
            .unwrap()
            .lines()
            .count(),
        20
    );
    // The resolved recipe is a recipe, and the same one.
    let resolved = root.join("config.toml");
    let again = scene.succeeds(&["train", resolved.to_str().unwrap(), "--dry-run"]);
    assert_eq!(again, fs::read_to_string(resolved).unwrap());
}

#[test]
fn a_run_says_where_it_comes_from() {
    let scene = Scene::new();
    let recipe = scene.recipe();
    let text = fs::read_to_string(scene.path(&recipe)).unwrap();
    scene.succeeds(&["train", &recipe, "--set", "seed=4"]);
    let record = fs::read_to_string(scene.path("runs/tiny/run.json")).unwrap();
    let record: serde_json::Value = serde_json::from_str(&record).unwrap();
    let start = &record["starts"][0];
    assert_eq!(
        (&start["recipe"], &start["overrides"][0]),
        (&"tiny.toml".into(), &"seed=4".into())
    );
    assert_eq!(start["command"][1], "train");
    let libtorch = start["libtorch"].as_str().unwrap();
    assert!(libtorch.starts_with("2.11."), "{libtorch}");
    let version = scene.succeeds(&["--version"]);
    assert!(
        version.contains(start["revision"].as_str().unwrap()),
        "{version}"
    );
    assert!(version.contains("libtorch 2.11"), "{version}");
    let kept = fs::read_to_string(scene.path("runs/tiny/recipe.toml")).unwrap();
    assert_eq!(kept, text);
}

#[test]
fn the_numbers_of_a_run_are_a_table() {
    let scene = Scene::new();
    scene.succeeds(&["train", &scene.recipe()]);
    let table = scene.succeeds(&["metrics", "runs/tiny"]);
    assert_eq!(table.lines().count(), 21);
    scene.succeeds(&["metrics", "runs/tiny", "--out", "metrics.csv"]);
    assert_eq!(
        fs::read_to_string(scene.path("metrics.csv")).unwrap(),
        table
    );
}

#[test]
fn an_average_of_any_decay_is_weights_like_others() {
    let scene = Scene::new();
    scene.succeeds(&["train", &scene.recipe()]);
    let decay = words("ema runs/tiny --decay 0.8 --out ema.safetensors");
    let said = scene.succeeds(&decay);
    assert!(said.contains("average        0.8 after step 20"), "{said}");
    let half_life = words("ema runs/tiny --half-life 100 --out ema.safetensors --json");
    let report: serde_json::Value = serde_json::from_str(&scene.succeeds(&half_life)).unwrap();
    assert_eq!(report["ema"]["name"], "half-life-100");
    assert!(report["ema"]["profile_error"].as_f64().unwrap() < 1.0);
    scene.succeeds(&words("sample ema.safetensors --seeds 0-3 --out grid.png"));
    for wrong in [
        &["--decay", "1.0"][..],
        &["--ramp", "0.1"],
        &["--decay", "0.9", "--half-life", "9"],
    ] {
        let arguments = [&["ema", "runs/tiny", "--out", "x.safetensors"], wrong].concat();
        scene.fails(2, &arguments);
    }
}

#[test]
fn a_dry_run_does_nothing() {
    let scene = Scene::new();
    let said = scene.succeeds(&["train", &scene.recipe(), "-n", "--set", "training.steps=7"]);
    assert!(said.contains("steps = 7"), "{said}");
    assert!(!scene.path("runs").exists());
}

#[test]
fn the_sample_of_a_seed_is_its_own() {
    let scene = Scene::new();
    scene.succeeds(&[&["train", &scene.recipe()][..], &DIGITS].concat());
    let sample =
        |more: &[&str]| scene.succeeds(&[&["sample", "digits", "--class", "4"][..], more].concat());
    sample(&["--seeds", "0-70", "--out", "many"]);
    sample(&["--seeds", "69,3", "--out", "few"]);
    let picture = |folder: &str, seed: u64| {
        fs::read(scene.path(&format!("{folder}/000000/{seed:06}.png"))).unwrap()
    };
    for seed in [3, 69] {
        assert_eq!(picture("many", seed), picture("few", seed));
    }
    assert_ne!(picture("few", 3), picture("few", 69));
}

#[test]
fn archives_hold_the_classes_asked_for() {
    let scene = Scene::new();
    scene.succeeds(&[&["train", &scene.recipe()][..], &DIGITS].concat());
    for (class, first) in [
        ("balanced", "[0, 1, 2, 3]"),
        ("data", "[8, 9, 7, 5]"),
        ("7", "[7, 7, 7, 7]"),
        ("none", "[10, 10, 10, 10]"),
    ] {
        scene.succeeds(&words(&format!(
            "sample digits --seeds 0-3 --class {class} --out batch.npz"
        )));
        let mut archive = meanflow_data::npz::Npz::open(&scene.path("batch.npz"), 1 << 20).unwrap();
        let images = archive.read("arr_0").unwrap();
        assert_eq!(images.shape, [4, 8, 8, 1]);
        let labels = format!("{:?}", archive.read("arr_1").unwrap().data);
        assert!(labels.contains(first), "{class}: {labels}");
    }
    let report = scene.succeeds(&[
        "sample", "digits", "--seeds", "0-5", "--out", "grid.png", "--json",
    ]);
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(&report).unwrap()["samples"],
        6
    );
}

#[test]
fn points_of_the_plane_are_drawn_and_stored() {
    let scene = Scene::new();
    scene.trained("run");
    scene.succeeds(&["sample", "run", "--seeds", "0-99", "--out", "density.png"]);
    scene.succeeds(&words(
        "sample run/model.safetensors --seeds 0-99 --out points.npz --steps 3",
    ));
    let mut archive = meanflow_data::npz::Npz::open(&scene.path("points.npz"), 1 << 20).unwrap();
    assert_eq!(archive.read("arr_0").unwrap().shape, [100, 2]);
}

#[test]
fn info_and_validate_agree_on_the_parameters() {
    let scene = Scene::new();
    scene.trained("run");
    let parse = |text: String| serde_json::from_str::<serde_json::Value>(&text).unwrap();
    let info = parse(scene.succeeds(&["info", "run", "--json"]));
    let facts = parse(scene.succeeds(&["validate", &scene.recipe(), "--json"]));
    assert_eq!(info["parameters"], facts["parameters"]);
    assert_eq!(info["metadata"]["step"], "20");
    // The recipe's is rounded to five digits.
    let gflop = |facts: &serde_json::Value| facts["forward_gflop"].as_f64().unwrap();
    assert!((gflop(&info) / gflop(&facts) - 1.0).abs() < 1e-4);
    assert_eq!(facts["mean_flow_rows_first_batch"], 16);
    assert!(scene.succeeds(&["info", "run"]).contains("sha256"));
}

#[test]
fn validate_says_what_every_recipe_in_the_repository_costs() {
    let scene = Scene::new();
    // One recipe reads a folder of this name.
    write_pictures(&scene);
    let recipes = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs");
    let mut count = 0;
    for entry in recipes.read_dir().unwrap() {
        let recipe = entry.unwrap().path().display().to_string();
        let text = scene.succeeds(&["validate", &recipe, "--json"]);
        let facts: serde_json::Value = serde_json::from_str(&text).unwrap();
        let number = |key: &str| {
            facts[key]
                .as_f64()
                .unwrap_or_else(|| panic!("{recipe}: {key}"))
        };
        let parts = words("weights gradients optimizer averages activations");
        let parts = parts.iter().map(|part| number(&format!("{part}_mib")));
        let sum: f64 = parts.sum();
        // Every part is rounded to five digits.
        assert!(
            (sum / number("memory_mib") - 1.0).abs() < 1e-3,
            "{recipe}: {text}"
        );
        // Three forwards, one more for every MeanFlow row, of which attention has more, and at most one and a third for guidance.
        let forwards = number("training_gflop") / number("forward_gflop");
        let jumps = number("mean_flow_rows_first_batch") / number("effective_batch");
        let most = 4.35 + jumps;
        assert!((3.2..most).contains(&forwards), "{recipe}: {forwards}");
        for key in [
            "effective_batch",
            "steps_per_epoch",
            "parameters",
            "guidance_scale",
        ] {
            assert!(number(key) > 0.0, "{recipe}: {key}");
        }
        let lines = scene.succeeds(&["validate", &recipe]);
        assert_eq!(lines.lines().count(), lines_for(&facts));
        count += 1;
    }
    assert!(count >= 11, "{count}");
}

/// Lines for people that say these facts: kinds of pictures have none where there are no such pictures.
fn lines_for(facts: &serde_json::Value) -> usize {
    let kinds = ["alpha", "oriented", "sixteen_bit", "cmyk"];
    let keys = facts.as_object().unwrap().keys();
    keys.filter(|key| !kinds.contains(&key.as_str())).count()
}

/// How many threads of a process take SIGINT or SIGTERM. One in a matrix product must not: the kernel would push the signal's frame into the heap.
fn interruptible(process: u32) -> usize {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).unwrap();
    let blocked = |task: &fs::DirEntry| {
        let status = fs::read_to_string(task.path().join("status")).unwrap();
        let mask = status
            .lines()
            .find_map(|line| line.strip_prefix("SigBlk:"))
            .unwrap();
        let mask = u64::from_str_radix(mask.trim(), 16).unwrap();
        // Signals 2 and 15, counted from 1.
        mask & (1 << 1) != 0 && mask & (1 << 14) != 0
    };
    tasks
        .filter(|task| !blocked(task.as_ref().unwrap()))
        .count()
}

/// Sends a signal to a process.
pub(crate) fn kill(signal: &str, process: u32) {
    let killed = Command::new("kill")
        .args([format!("-{signal}"), process.to_string()])
        .status()
        .unwrap();
    assert!(killed.success());
}

#[test]
fn a_signal_saves_a_checkpoint_and_the_run_goes_on_from_it() {
    let scene = Scene::new();
    let recipe = scene.recipe();
    for (signal, code) in [("INT", 130), ("TERM", 143), ("HUP", 129), ("USR1", 138)] {
        let arguments = [&["train", &recipe, "--out", signal][..], &ENDLESS].concat();
        let mut child = scene
            .command(&arguments)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // The reader goes away in the middle, which is none of the run's business.
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        assert!(
            lines
                .map_while(Result::ok)
                .any(|line| line.contains("Z step ")),
            "it never began"
        );
        assert_eq!(
            interruptible(child.id()),
            1,
            "threads besides the one that waits"
        );
        kill(signal, child.id());
        assert_eq!(child.wait().unwrap().code(), Some(code));
        let checkpoints = names(&scene.path(signal).join("checkpoints"));
        let step: u64 = checkpoints
            .first()
            .unwrap()
            .trim_start_matches("step-")
            .parse()
            .unwrap();
        let steps = format!("training.steps={}", step + 5);
        scene.succeeds(&[&arguments[..], &["--set", &steps]].concat());
        assert_eq!(names(&scene.path(signal).join("checkpoints")).len(), 2);
    }
}
