//! Several processes of one command, on loopback.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::commands::kill;
use crate::latents;
use crate::support::{RECIPE, Scene, words};

/// Four microbatches, which 1, 2 and 4 processes can share.
fn recipe(scene: &Scene, steps: u32) -> String {
    let shared = RECIPE.replace(
        "steps = 20,",
        &format!("steps = {steps}, microbatches = 4,"),
    );
    scene.file("shared.toml", &shared)
}

fn launched(scene: &Scene, processes: &str, arguments: &[&str]) -> Child {
    let mut command = scene.command(&["launch", "--processes", processes]);
    command.args(arguments);
    let quiet = command.stdout(Stdio::piped()).stderr(Stdio::piped());
    quiet.spawn().unwrap()
}

/// The processes that a launcher has started, once there are so many.
fn children(launcher: &Child, count: usize) -> Vec<u32> {
    let path = format!("/proc/{0}/task/{0}/children", launcher.id());
    let start = Instant::now();
    loop {
        let text = fs::read_to_string(&path).unwrap();
        let found: Vec<u32> = text
            .split_whitespace()
            .map(|id| id.parse().unwrap())
            .collect();
        if found.len() == count {
            return found;
        }
        assert!(start.elapsed() < Duration::from_secs(20), "{text}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// Waits for a run's first checkpoint.
fn wait_for_checkpoint(scene: &Scene, run: &str) {
    let place = scene
        .path(run)
        .join("checkpoints/step-00000010/manifest.json");
    let start = Instant::now();
    while !place.exists() {
        assert!(start.elapsed() < Duration::from_secs(60), "no checkpoint");
        thread::sleep(Duration::from_millis(10));
    }
}

/// What a step knows of rows, ranks and microbatches: guidance, dropped labels, a limit to the norm, two averages; eight microbatches,
/// which 1, 2, 4 and 8 processes can share.
const SHARED: &str = r#"
seed = 3
path = { kind = "linear" }
optimizer = { kind = "adamw", beta1 = 0.9, beta2 = 0.95, epsilon = 1e-8, weight_decay = 0.01 }
lr = { schedule = "cosine", peak = 1e-2, warmup_steps = 3, final_ratio = 0.1 }
loss = { norm_p = 1.0, norm_eps = 0.01, reduction = "sum" }
guidance = { omega = 1.0, kappa = 0.5, interval = [0.0, 0.8] }
class_dropout = { prob = 0.2, rows = "independent" }
ema = { decays = [0.9, 0.5] }
training = { batch_size = 20, microbatches = 8, steps = 50, checkpoint_every = 50, sample_every = 50, log_every = 1, max_grad_norm = 0.5 }
sampling = { grid = [2, 5], nfe = [1] }

[times]
t = { kind = "logit-normal", mean = -0.4, std = 1.0 }
mean_flow_ratio = { bernoulli = 0.5 }
order = "after-ordering"
"#;

const TRANSFORMER: &str = r#"
data = { kind = "digits", conditional = true }
network = { kind = "dit", patch = 4, width = 16, depth = 1, heads = 2, mlp_ratio = 4.0, embedding = "th" }
"#;

/// With dropout, which has a seed of its own for every microbatch.
const UNET: &str = r#"
data = { kind = "digits", conditional = true }
network = { kind = "unet", channels = 8, multipliers = [1, 2], blocks = 1, attention = [4], filter = [1.0, 3.0, 3.0, 1.0], noise_ratio = 2, embedding = "th", augment = 0, dropout = 0.1 }
"#;

#[test]
fn processes_give_the_digits_of_one_with_a_transformer() {
    processes_give_the_digits_of_one(TRANSFORMER, &["2", "4", "8"]);
}

#[test]
fn processes_give_the_digits_of_one_with_a_unet() {
    // Eight of these take two cores half a minute.
    processes_give_the_digits_of_one(UNET, &["2", "4"]);
}

fn processes_give_the_digits_of_one(network: &str, counts: &[&str]) {
    let scene = Scene::new();
    let recipe = scene.file("shared.toml", &format!("{network}{SHARED}"));
    scene.succeeds(&["train", &recipe, "--out", "1"]);
    assert_eq!(records(&scene, "1").len(), 50);
    for &processes in counts {
        let train = ["--", "train", &recipe, "--out", processes];
        let said = scene.succeeds(&[&["launch", "--processes", processes], &train[..]].concat());
        let done = format!("done: {processes}/");
        assert_eq!(said.matches(&done).count(), 1, "{said}");
        assert!(
            tensors(&scene, processes) == tensors(&scene, "1"),
            "{processes}"
        );
        assert_eq!(
            records(&scene, processes),
            records(&scene, "1"),
            "{processes}"
        );
    }
}

/// The weights, averages and moments of the last checkpoint, and the weights to sample from.
fn tensors(scene: &Scene, run: &str) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = files(&scene.path(run).join("checkpoints"));
    found.retain(|name, _| {
        name.extension()
            .is_some_and(|extension| extension == "safetensors")
    });
    assert_eq!(found.len(), 4, "{:?}", found.keys());
    let weights = fs::read(scene.path(run).join("model.safetensors")).unwrap();
    found.insert("model.safetensors".into(), weights);
    found
}

/// The metrics without their times.
fn records(scene: &Scene, run: &str) -> Vec<serde_json::Value> {
    let text = fs::read_to_string(scene.path(run).join("metrics.jsonl")).unwrap();
    let numbers = |line: &str| {
        let mut record: serde_json::Value = serde_json::from_str(line).unwrap();
        for time in ["samples_per_second", "seconds", "wait_share"] {
            assert!(record.as_object_mut().unwrap().remove(time).is_some());
        }
        record
    };
    text.lines().map(numbers).collect()
}

#[test]
fn a_killed_process_ends_all_and_a_restart_goes_on() {
    let scene = Scene::new();
    let recipe = recipe(&scene, 400);
    let arguments = ["--", "train", &recipe, "--out", "run"];
    let mut launcher = launched(&scene, "2", &arguments);
    let processes = children(&launcher, 2);
    wait_for_checkpoint(&scene, "run");
    kill("KILL", processes[1]);
    let start = Instant::now();
    assert_eq!(launcher.wait().unwrap().code(), Some(128 + 9));
    // At once, but for what the first is writing.
    assert!(start.elapsed() < Duration::from_secs(20));
    let (code, error) = scene.runs_under(
        // The second process, a second after it is there.
        "second() { cut -s -d' ' -f2 /proc/$1/task/$1/children; }
         kill_later() { until [ -n \"$(second $1)\" ]; do sleep 0.1; done; sleep 1; kill -9 $(second $1); }
         \"$@\" & kill_later $!; wait $!",
        &[&["launch", "--processes", "2", "--restarts", "1"], &arguments[..]].concat(),
    );
    assert_eq!(code, 0, "{error}");
    assert!(error.contains("begin again"), "{error}");
}

/// After sound steps the rate is so high that the update overflows: back three times, then the end, as one process does it.
#[test]
fn processes_go_back_and_end_as_one_does() {
    let scene = Scene::new();
    let recipe = recipe(&scene, 60);
    let diverge = words("--set lr.peak=1e300 --allow-changes lr.peak,training.steps");
    let bundles = [("one", None), ("two", Some("2"))].map(|(run, processes)| {
        let train = ["train", &recipe, "--out", run];
        scene.succeeds(&[&train[..], &["--set", "training.steps=20"]].concat());
        let mut command = scene.command(&[]);
        if let Some(processes) = processes {
            command.args(["launch", "--processes", processes, "--"]);
        }
        let output = command.args(train).args(&diverge).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(7), "{said}");
        [1, 2, 3, 4]
            .map(|number| fs::read(scene.path(run).join(format!("crash-{number}.json"))).unwrap())
    });
    assert!(bundles[0] == bundles[1]);
    assert!(!scene.path("two/crash-5.json").exists());
}

#[test]
fn a_signal_stops_all_after_the_same_step() {
    let scene = Scene::new();
    let recipe = recipe(&scene, 100_000);
    let arguments = ["--", "train", &recipe, "--out", "run"];
    let mut launcher = launched(&scene, "2", &arguments);
    wait_for_checkpoint(&scene, "run");
    kill("TERM", launcher.id());
    assert_eq!(launcher.wait().unwrap().code(), Some(143));
}

/// The files of a folder with their contents.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(folder).unwrap().to_owned();
                found.insert(name, fs::read(path).unwrap());
            }
        }
    }
    found
}

#[test]
fn samples_of_several_processes_are_the_files_of_one() {
    let scene = Scene::new();
    latents::trained(&scene);
    // Latents in one file, which rank 0 writes, and pictures, in one and in many; fewer seeds than processes leave some without.
    let outputs: [(&str, &[&str]); 4] = [
        ("latents.npz", &["--seeds", "0-70"]),
        ("grid.png", &["--seeds", "0-70", "--vae", "vae"]),
        ("folder", &["--seeds", "0-70", "--vae", "vae"]),
        ("few.npz", &["--seeds", "5,3", "--vae", "vae"]),
    ];
    let launch = ["launch", "--processes", "3", "--"];
    for (out, more) in outputs {
        let path = scene.path(out);
        let [one, three] = [&[][..], &launch[..]].map(|before| {
            let sample = ["sample", "run", "--out", out];
            let said = scene.succeeds(&[before, &sample, more].concat());
            assert_eq!(said.matches(" samples, ").count(), 1, "{said}");
            let whole = match path.is_dir() {
                true => files(&path),
                false => BTreeMap::from([(PathBuf::new(), fs::read(&path).unwrap())]),
            };
            match path.is_dir() {
                true => fs::remove_dir_all(&path).unwrap(),
                false => fs::remove_file(&path).unwrap(),
            }
            whole
        });
        assert!(one == three, "{out}");
    }
    // What is there is refused by all before anybody draws.
    fs::create_dir(scene.path("folder")).unwrap();
    scene.file("folder/own.txt", "mine");
    let sample = ["sample", "run", "--seeds", "0-9", "--vae", "vae"];
    let error = scene.fails(2, &[&launch[..], &sample, &["--out", "folder"]].concat());
    assert!(error.contains("not empty"), "{error}");
}

#[test]
fn pictures_encoded_by_several_processes_are_the_files_of_one() {
    let scene = Scene::new();
    latents::vae(&scene);
    let encode = [
        "data", "encode", "digits", "--vae", "vae", "--flip", "--out",
    ];
    scene.succeeds(&[&encode[..], &["one"]].concat());
    let launch = ["launch", "--processes", "3", "--"];
    let said = scene.succeeds(&[&launch[..], &encode[..], &["three"]].concat());
    assert_eq!(said.matches("1797 latents").count(), 1, "{said}");
    assert!(files(&scene.path("one")) == files(&scene.path("three")));
}

/// It lives, so that nobody's operation fails: only that it does nothing tells of it.
#[test]
fn a_stopped_process_is_named_and_ends_all_in_time() {
    let scene = Scene::new();
    let recipe = recipe(&scene, 100_000);
    let line = format!("-- train {recipe} --out run --peer-timeout 2s");
    let arguments = words(&line);
    let mut launcher = launched(&scene, "2", &arguments);
    let processes = children(&launcher, 2);
    wait_for_checkpoint(&scene, "run");
    kill("STOP", processes[1]);
    let start = Instant::now();
    assert_eq!(launcher.wait().unwrap().code(), Some(9));
    // Two seconds, and twenty until the launcher kills what does not end.
    assert!(start.elapsed() < Duration::from_secs(30));
    let mut said = String::new();
    launcher
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut said)
        .unwrap();
    assert!(said.contains("rank 1 was last seen at step"), "{said}");
    assert!(said.contains("does not answer"), "{said}");
}

/// The store that it serves is gone with it. What the processes do together goes on without, and nobody would wait for them.
#[test]
fn a_killed_launcher_ends_all_with_a_checkpoint() {
    let scene = Scene::new();
    let recipe = recipe(&scene, 100_000);
    let train = [
        "--",
        "train",
        &recipe,
        "--out",
        "run",
        "--peer-timeout",
        "2s",
    ];
    let mut launcher = launched(&scene, "2", &train);
    wait_for_checkpoint(&scene, "run");
    kill("KILL", launcher.id());
    launcher.wait().unwrap();
    let start = Instant::now();
    // They end where all that the processes have inherited is closed.
    let mut said = [String::new(), String::new()];
    let [out, error] = &mut said;
    launcher.stdout.take().unwrap().read_to_string(out).unwrap();
    launcher
        .stderr
        .take()
        .unwrap()
        .read_to_string(error)
        .unwrap();
    assert!(start.elapsed() < Duration::from_secs(20));
    assert_eq!(
        error.matches("the launcher that serves it").count(),
        1,
        "{error}"
    );
    let step = out
        .split("stopped after step ")
        .nth(1)
        .and_then(|rest| rest.split(';').next());
    let step: u64 = step.unwrap().parse().unwrap();
    let checkpoint = format!("run/checkpoints/step-{step:08}/manifest.json");
    assert!(scene.path(&checkpoint).exists(), "{out}");
}

/// Wherever memory is missing, from the first tensor on.
#[test]
fn missing_memory_has_its_own_exit_code() {
    let scene = Scene::new();
    let large = RECIPE.replace("width = 16", "width = 4000");
    let large = large.replace("depth = 2", "depth = 12");
    let recipe = scene.file("large.toml", &large);
    // Enough for the program, and for some of the 11 layers of 64 MB, of which there are four sets.
    for mebibytes in [900, 1400, 2000, 2600] {
        let script = format!("ulimit -v {}; exec \"$@\"", 1024 * mebibytes);
        let (code, error) = scene.runs_under(&script, &["train", &recipe, "--out", "run"]);
        assert_eq!(code, 8, "{mebibytes}: {error}");
        assert!(
            error.contains("hint: a training step takes less memory")
                && !error.contains("panicked"),
            "{error}"
        );
    }
}

#[test]
fn what_failed_is_told_to_torchrun_in_its_own_form() {
    let scene = Scene::new();
    let path = scene.path("error.json");
    let told = |arguments: &[&str]| {
        let mut command = scene.command(arguments);
        let output = command
            .env("TORCHELASTIC_ERROR_FILE", &path)
            .output()
            .unwrap();
        let text = fs::read_to_string(&path).ok()?;
        fs::remove_file(&path).unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        Some((
            serde_json::from_str::<serde_json::Value>(&text).unwrap(),
            said,
        ))
    };
    let (content, said) = told(&["train", "nowhere.toml"]).unwrap();
    let message = content["message"]["message"].as_str().unwrap();
    assert!(
        said.contains(message) && message.contains("nowhere.toml"),
        "{said}"
    );
    assert_eq!(told(&["train", &scene.recipe(), "--dry-run"]), None);
}

#[test]
fn what_cannot_be_shared_is_refused() {
    let scene = Scene::new();
    let launch = ["launch", "--processes", "2", "--"];
    for [command, word] in [["info", "info"], ["launch", "launch"]] {
        let error = scene.fails(2, &[&launch[..], &[command, "run"]].concat());
        assert!(error.contains(&format!("got {word}")), "{error}");
    }
    let recipe = recipe(&scene, 20);
    let train = ["launch", "--processes", "3", "--", "train", &recipe];
    let error = scene.fails(2, &train);
    assert!(error.contains("a multiple of 3"), "{error}");
    let set = [
        "--set",
        "compute.async_metrics=true",
        "--set",
        "compute.cuda_graph=true",
    ];
    let error = scene.fails(2, &[&launch[..], &["train", &recipe], &set].concat());
    assert!(
        error.contains("compute.cuda_graph of several processes"),
        "{error}"
    );
    let error = scene.fails(2, &["launch", "--processes", "0", "--", "train", &recipe]);
    assert!(error.contains("'0' for '--processes <N>'"), "{error}");
}

/// Whatever command reads it, on whatever device.
#[test]
fn an_environment_that_cannot_be_is_refused() {
    let scene = Scene::new();
    let recipe = recipe(&scene, 20);
    let refused = |variables: &[(&str, &str)], arguments: &[&str], words: &str| {
        let mut command = scene.command(arguments);
        let output = command.envs(variables.iter().copied()).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{variables:?}: {said}");
        assert!(said.contains(words) && !said.contains("libtorch"), "{said}");
    };
    let train = ["train", &recipe, "--out", "run"];
    let two = ("WORLD_SIZE", "2");
    let place = ("MASTER_ADDR", "127.0.0.1");
    let cases: [(&[(&str, &str)], &str); 8] = [
        (&[("RANK", "5"), two], "got RANK 5, WORLD_SIZE 2"),
        (
            &[("RANK", "-1"), two],
            "RANK: expected a number, got \"-1\"",
        ),
        (&[("RANK", ""), two], "RANK: expected a number, got \"\""),
        (&[("RANK", "0")], "WORLD_SIZE not set"),
        (
            &[("RANK", "0"), two, ("LOCAL_RANK", "x")],
            "LOCAL_RANK: expected a number",
        ),
        (&[("RANK", "0"), two], "expected MASTER_ADDR"),
        (&[("RANK", "0"), two, place], "expected MASTER_PORT"),
        (
            &[("RANK", "0"), two, place, ("MASTER_PORT", "http")],
            "MASTER_PORT: expected a port, got \"http\"",
        ),
    ];
    for (variables, words) in cases {
        for device in ["auto", "cpu"] {
            refused(
                variables,
                &[&train[..], &["--device", device]].concat(),
                words,
            );
        }
    }
    // Each of two would start two.
    let launch = ["launch", "--processes", "2", "--"];
    let many = [("RANK", "1"), two];
    refused(&many, &[&launch[..], &train].concat(), "got rank 1 of 2");
}
