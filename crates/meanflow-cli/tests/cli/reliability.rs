//! What is promised when a process dies, a disk is full, a file is damaged, or a name asks for the impossible.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};
use std::thread;
use std::time::Duration;

use crate::commands::kill;
use crate::support::{ENDLESS, RECIPE, Scene, words};
use meanflow_torch::{Model, Tensor, weights};
use tch::{Device, Kind, no_grad};

#[test]
fn a_divergence_is_written_down_and_done_again() {
    let scene = Scene::new();
    let recipe = scene.recipe();
    let rate = ["train", &recipe, "--set", "lr.peak=1e300", "--out", "run"];
    let error = scene.fails(7, &rate);
    assert!(
        error.contains("meanflow train --replay run/crash-1.json"),
        "{error}"
    );
    let said = scene.succeeds(&["train", "--replay", "run/crash-1.json"]);
    for part in [
        "from the beginning to step 1",
        "bit for bit",
        "NaN or infinity after it",
    ] {
        assert!(said.contains(part), "{said}");
    }
    fs::write(scene.path("no.json"), "{}").unwrap();
    assert!(
        scene
            .fails(5, &["train", "--replay", "no.json"])
            .contains("no crash bundle")
    );
    scene.fails(2, &["train", &recipe, "--replay", "run/crash-1.json"]);
    scene.fails(2, &["train"]);
}

/// Starts the program and waits until it trains.
fn begun(mut command: std::process::Command) -> Child {
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut lines = lines.map_while(Result::ok);
    assert!(lines.any(|line| line.contains("Z step ")), "it never began");
    child
}

/// A run may die between the commit of its last checkpoint and the writing of what goes with it.
#[test]
fn weights_and_curve_are_made_again_where_they_are_not_those_of_the_last_checkpoint() {
    let scene = Scene::new();
    let weights = scene.trained("run");
    let (whole, curve) = (fs::read(&weights).unwrap(), scene.path("run/loss.svg"));
    let drawn = fs::read(&curve).unwrap();
    let older = scene.path("run/checkpoints/step-00000010/ema-0.9.safetensors");
    let train = ["train", "tiny.toml", "--out", "run"];
    for stale in [true, false] {
        if stale {
            fs::copy(&older, &weights).unwrap();
        } else {
            fs::remove_file(&weights).unwrap();
        }
        fs::write(&curve, "half a cur").unwrap();
        let output = scene.command(&train).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains("already finished: 20 of 20"), "{said}");
        assert!(said.contains("made again: run/model.safetensors"), "{said}");
        assert_eq!(fs::read(&weights).unwrap(), whole);
        assert_eq!(fs::read(&curve).unwrap(), drawn);
    }
}

/// It used to run the destructors of libtorch under threads that compute: 54 of 60 crashed.
#[test]
fn a_second_ctrl_c_ends_a_computing_process_at_once_and_in_order() {
    let scene = Scene::new();
    let wide = words("--set network.width=128 --set training.batch_size=512");
    let recipe = scene.recipe();
    let arguments = [&["train", &recipe][..], &ENDLESS, &wide].concat();
    for _ in 0..6 {
        let mut child = begun(scene.command(&arguments));
        kill("INT", child.id());
        kill("INT", child.id());
        assert_eq!(child.wait().unwrap().code(), Some(130));
    }
}

#[test]
fn a_run_outlives_its_terminal_under_nohup_only() {
    let scene = Scene::new();
    let recipe = scene.recipe();
    let mut command = std::process::Command::new("bash");
    let arguments = [&["train", &recipe, "--out", "run"][..], &ENDLESS].concat();
    let program = env!("CARGO_BIN_EXE_meanflow");
    command
        .args(["-c", "trap '' HUP; exec \"$@\"", "bash", program])
        .args(&arguments)
        .env("OMP_NUM_THREADS", "1")
        .current_dir(scene.path(""));
    let mut child = begun(command);
    kill("HUP", child.id());
    thread::sleep(Duration::from_millis(300));
    assert!(child.try_wait().unwrap().is_none(), "it ended");
    kill("USR1", child.id());
    assert_eq!(child.wait().unwrap().code(), Some(138));
}

#[test]
fn a_run_stops_when_its_time_is_over() {
    let scene = Scene::new();
    let recipe = scene.recipe();
    let arguments = [
        &["train", &recipe, "--out", "run", "--max-time", "1s"][..],
        &ENDLESS,
    ]
    .concat();
    for expected in [1, 2] {
        assert_eq!(scene.command(&arguments).status().unwrap().code(), Some(10));
        let checkpoints = fs::read_dir(scene.path("run/checkpoints")).unwrap();
        assert_eq!(checkpoints.count(), expected);
    }
}

/// Also beyond the largest file that the shell allows.
#[test]
fn output_that_cannot_be_written_is_a_failure() {
    let scene = Scene::new();
    let weights = scene.trained("run");
    let weights = weights.to_str().unwrap();
    for arguments in [
        &["info", weights, "--json"][..],
        &["validate", "tiny.toml"],
        &["train", "tiny.toml", "--dry-run"],
        &["--help"],
    ] {
        let (code, error) = scene.runs_under("\"$@\" > /dev/full", arguments);
        assert_eq!(code, 6, "{arguments:?}: {error}");
        assert!(error.contains("standard output"), "{error}");
    }
    // Ten KiB: less than a checkpoint of this network.
    let small = "ulimit -f 10; \"$@\"";
    let arguments = words("train tiny.toml --out limited --set network.width=32");
    let (code, error) = scene.runs_under(small, &arguments);
    assert_eq!(code, 6, "{error}");
    assert!(error.contains("make room"), "{error}");
    scene.succeeds(&arguments);
    let error = scene.fails(
        1,
        &["sample", weights, "--seeds", "0", "--out", "/proc/x.png"],
    );
    assert!(error.contains("could not write"), "{error}");
    // A folder opens, and cannot be read.
    fs::create_dir(scene.path("folder.safetensors")).unwrap();
    fs::create_dir(scene.path("folder.safetensors/model.safetensors")).unwrap();
    scene.fails(5, &["info", "folder.safetensors"]);
}

#[test]
fn damaged_metrics_end_no_run() {
    let scene = Scene::new();
    scene.trained("run");
    let metrics = scene.path("run/metrics.jsonl");
    let mut text = fs::read(&metrics).unwrap();
    text[10] = 0xff;
    fs::write(&metrics, text).unwrap();
    let longer = words("train tiny.toml --out run --set training.steps=30");
    let error = scene.fails(3, &longer);
    assert!(error.contains("training.steps: was 20, is 30"), "{error}");
    assert!(error.contains("--allow-changes"), "{error}");
    let allowed = [&longer[..], &["--allow-changes", "training.steps"]].concat();
    let output = scene.command(&allowed).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.contains("lines that cannot be read: 1"), "{said}");
    assert!(said.contains("learning rate of the next step"), "{said}");
    let state = fs::read_to_string(scene.path("run/checkpoints/step-00000030/state.json")).unwrap();
    let state: serde_json::Value = serde_json::from_str(&state).unwrap();
    assert_eq!(state["changes"][0]["after_step"], 20);
    assert!(
        state["changes"][0]["differences"][0]
            .as_str()
            .unwrap()
            .contains("was 20, is 30")
    );
}

fn sample<'a>(model: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [
        &["sample", model, "--seeds", "0-3", "--out", "x.png"][..],
        more,
    ]
    .concat()
}

#[test]
fn a_flipped_bit_in_the_numbers_is_noticed_by_every_reader() {
    let scene = Scene::new();
    let path = scene.trained("run");
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() - 1000;
    bytes[middle] ^= 1;
    fs::write(&path, bytes).unwrap();
    for arguments in [
        &sample("run", &[])[..],
        &["info", "run"],
        &["check", "run"],
        &["interpolate", "run", "--seeds", "1,2", "--out", "y.png"],
        &words("convert export run --layout flax --out z.safetensors"),
    ] {
        let error = scene.fails(5, arguments);
        assert!(error.contains("SHA-256"), "{error}");
    }
    scene.succeeds(&sample("run", &["--no-verify"]));
    assert!(
        scene
            .succeeds(&["info", "run", "--no-verify"])
            .contains("not compared")
    );
}

/// Rewrites a file as an early version would have written it: without a hash.
fn without_hash(path: &Path, change: impl FnOnce(&mut BTreeMap<String, String>)) {
    let bytes = fs::read(path).unwrap();
    let length = u64::from_le_bytes(*bytes.first_chunk().unwrap()) as usize;
    let mut header: BTreeMap<String, serde_json::Value> =
        serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    let metadata = header.remove("__metadata__").unwrap();
    let mut metadata: BTreeMap<String, String> = serde_json::from_value(metadata).unwrap();
    metadata.retain(|key, _| !key.starts_with("content_"));
    change(&mut metadata);
    header.insert(
        "__metadata__".into(),
        serde_json::to_value(metadata).unwrap(),
    );
    let header = serde_json::to_vec(&header).unwrap();
    let length = (header.len() as u64).to_le_bytes();
    fs::write(
        path,
        [&length[..], &header, &bytes[8 + length_of(&bytes)..]].concat(),
    )
    .unwrap();
}

fn length_of(bytes: &[u8]) -> usize {
    u64::from_le_bytes(*bytes.first_chunk().unwrap()) as usize
}

#[test]
fn a_file_without_a_hash_opens_with_a_note() {
    let scene = Scene::new();
    without_hash(&scene.trained("run"), |_| {});
    let output = scene.command(&sample("run", &[])).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.contains("no hash of its content"), "{said}");
}

#[test]
fn weights_and_samples_that_are_no_numbers_are_refused() {
    let scene = Scene::new();
    let path = scene.trained("run");
    let (model, metadata) = Model::load(&path, Device::Cpu).unwrap();
    let last = model.parameters().tensors().pop().unwrap().shallow_clone();
    let save_with = |value: f64| {
        let _ = no_grad(|| last.shallow_clone().fill_(value));
        model.save(&path, metadata.clone()).unwrap();
    };
    save_with(f64::NAN);
    assert!(scene.fails(5, &sample("run", &[])).contains("1 of"));
    save_with(f64::from(f32::MAX));
    // Noise minus that much is infinite after two jumps.
    let all = model.parameters().tensors().into_iter();
    for mut tensor in all.map(Tensor::shallow_clone) {
        let _ = no_grad(|| tensor.fill_(1e30));
    }
    model.save(&path, metadata).unwrap();
    let error = scene.fails(7, &sample("run", &[]));
    assert!(error.contains("4 of 4 samples hold NaN"), "{error}");
    assert!(!scene.path("x.png").exists());
}

/// Sizes are compared with limits and with the tensors of the file before memory is taken for them.
#[test]
fn sizes_that_a_file_only_claims_are_refused() {
    let scene = Scene::new();
    let path = scene.trained("run");
    let whole = fs::read(&path).unwrap();
    for (from, to) in [
        ("\"depth\":2", "\"depth\":1000000"),
        ("\"depth\":2", "\"depth\":4000"),
        ("\"depth\":2", "\"depth\":1000000000000000"),
        ("\"width\":16", "\"width\":1099511627776"),
        ("\"width\":16", "\"width\":65536"),
        ("\"classes\":0", "\"classes\":1000000000000"),
        ("\"classes\":0", "\"classes\":9223372036854775807"),
        ("\"shape\":[2]", "\"shape\":[1000000000000000000]"),
        ("\"shape\":[2]", "\"shape\":[60000000]"),
    ] {
        fs::write(&path, &whole).unwrap();
        without_hash(&path, |metadata| {
            let model = metadata.get_mut("model").unwrap();
            assert!(model.contains(from), "{model}");
            *model = model.replacen(from, to, 1);
        });
        // Two GiB beside what libtorch maps.
        let script = "ulimit -v 6000000; exec \"$@\"";
        let (code, error) = scene.runs_under(script, &sample("run", &[]));
        assert_eq!(code, 5, "{to}: {error}");
    }
}

/// Sizes of a recipe have limits, and none of them is taken before it is looked at.
#[test]
fn sizes_that_a_recipe_only_claims_are_refused() {
    let scene = Scene::new();
    scene.recipe();
    let refused = |overrides: &[&str]| {
        let set = overrides.iter().flat_map(|one| ["--set", one]);
        scene.fails(
            3,
            &["validate", "tiny.toml"]
                .into_iter()
                .chain(set)
                .collect::<Vec<_>>(),
        );
    };
    for network in [
        r#"{ kind = "mlp", width = 16, depth = 4294967296, embedding = "th" }"#,
        r#"{ kind = "mlp", width = 4294967296, depth = 2, embedding = "th" }"#,
    ] {
        refused(&[&format!("network={network}")]);
    }
    let data = r#"data={ kind = "digits" }"#;
    let network = r#"network={ kind = "dit", patch = 2, width = 16, depth = 1, heads = 2, mlp_ratio = 2.0, embedding = "th" }"#;
    for set in [
        "network.mlp_ratio=9223372036854775807.0",
        "network.depth=4294967296",
    ] {
        refused(&[data, network, set]);
    }
    refused(&["training.batch_size=0x7fffffff"]);
    // Drawing the times of so many rows at every step took 29 seconds of the processor; a look at some takes less than one.
    let large = words("validate tiny.toml --set training.batch_size=1000000");
    let (code, error) = scene.runs_under("ulimit -t 8; exec \"$@\"", &large);
    assert_eq!(code, 0, "{error}");
}

/// Twenty terabytes of weights, gradients, moments and an average.
#[test]
fn a_recipe_that_no_memory_can_hold_is_refused_before_a_network_is_built() {
    let scene = Scene::new();
    let recipe = scene.recipe();
    let network = r#"network={ kind = "mlp", width = 65536, depth = 256, embedding = "th" }"#;
    let error = scene.fails(3, &["train", &recipe, "--set", network, "--out", "run"]);
    assert!(error.contains("MiB of memory"), "{error}");
    assert!(!scene.path("run").exists());
}

/// What a killed `sample` leaves: the mark with its command, some of the pictures, one of them half.
#[test]
fn a_folder_that_a_killed_command_left_half_filled_is_filled_by_the_same_command() {
    let scene = Scene::new();
    let data = r#"data={ kind = "digits", conditional = false }"#;
    let network = r#"network={ kind = "dit", patch = 4, width = 8, depth = 1, heads = 2, mlp_ratio = 1.0, embedding = "th" }"#;
    let recipe = scene.recipe();
    let train = ["train", &recipe, "--out", "run", "--set", data];
    let changes = ["--set", network, "--set", "training.steps=2"];
    scene.succeeds(&[&train[..], &changes].concat());
    let sample = ["sample", "run", "--seeds", "0-3", "--out", "folder"];
    scene.succeeds(&sample);
    let picture = scene.path("folder/000000/000002.png");
    let whole = fs::read(&picture).unwrap();
    assert!(!scene.path("folder/.unfinished").exists());
    let left = scene.path("folder/000000/.000003.png.1073741824-1.tmp");
    for mark in [
        format!("meanflow {}", sample.join(" ")),
        "meanflow sample run".to_owned(),
    ] {
        fs::write(scene.path("folder/.unfinished"), &mark).unwrap();
        fs::write(&left, "half").unwrap();
        fs::remove_file(&picture).unwrap();
        if mark.ends_with("folder") {
            scene.succeeds(&sample);
        } else {
            let error = scene.fails(2, &sample);
            assert!(
                error.contains("half filled by `meanflow sample run`"),
                "{error}"
            );
            scene.succeeds(&[&sample[..], &["--force"]].concat());
        }
        assert_eq!(fs::read(&picture).unwrap(), whole);
        assert!(!left.exists() && !scene.path("folder/.unfinished").exists());
    }
    let error = scene.fails(2, &sample);
    assert!(error.contains("not empty"), "{error}");
}

#[test]
fn weights_that_do_not_fit_are_refused_before_a_network_is_built() {
    let scene = Scene::new();
    weights::save(
        &scene.path("other.safetensors"),
        &[(
            "a".to_owned(),
            Tensor::zeros([3], (Kind::Float, Device::Cpu)),
        )],
        BTreeMap::new(),
    )
    .unwrap();
    let recipe =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs/imagenet256-xl2-plus.toml");
    let recipe = recipe.to_str().unwrap();
    let arguments = ["convert", "import", "other.safetensors", recipe];
    let arguments = [&arguments[..], &["--out", "x.safetensors"]].concat();
    // The network alone has 2.7 GiB of numbers.
    let (code, error) = scene.runs_under("ulimit -v 6000000; exec \"$@\"", &arguments);
    assert_eq!(code, 5, "{error}");
    assert!(error.contains("missing"), "{error}");
}

#[test]
fn seeds_beyond_the_last_are_refused() {
    let scene = Scene::new();
    scene.trained("run");
    let last = u64::MAX.to_string();
    let error = scene.fails(2, &["eval", "run", "--seed", &last, "--out", "report"]);
    assert!(
        error.contains("2^64") || error.contains("pictures"),
        "{error}"
    );
}

#[test]
fn any_checkpoint_and_average_of_a_run_can_draw() {
    let scene = Scene::new();
    // Both would still warm up in so few steps, and hold nearly the same.
    let averages = RECIPE.replace("[0.9]", "[0.9, 0.5], warmup = false");
    let recipe = scene.file("two.toml", &averages);
    scene.succeeds(&["train", &recipe, "--out", "run"]);
    let pictures = [
        &["--checkpoint", "20"][..],
        &["--checkpoint", "20", "--ema", "0.9"],
        &["--ema", "0.5"],
        &["--checkpoint", "10"],
    ]
    .map(|more| {
        scene.succeeds(&sample("run", more));
        fs::read(scene.path("x.png")).unwrap()
    });
    assert_eq!(pictures[0], pictures[1]);
    assert!(pictures[1] != pictures[2] && pictures[1] != pictures[3]);
    assert!(
        scene
            .fails(2, &sample("run", &["--checkpoint", "7"]))
            .contains("20, 10")
    );
    assert!(
        scene
            .fails(2, &sample("run", &["--ema", "0.7"]))
            .contains("0.9, 0.5")
    );
}
