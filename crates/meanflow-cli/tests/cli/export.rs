//! `meanflow export`, folders that it wrote as models, and models of a hub by name.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::{Scene, words};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

#[test]
fn an_exported_folder_is_a_model_like_the_run() {
    let scene = Scene::new();
    scene.trained("run");
    let said = scene.succeeds(&words(
        "export hf run --out shared --license mit --dataset me/boards",
    ));
    for name in [
        "README.md",
        "config.json",
        "model.safetensors",
        "modeling_meanflow.py",
        "samples.png",
        "wrote shared",
    ] {
        assert!(said.contains(name), "{name}: {said}");
    }
    for (model, out) in [("run", "one.npz"), ("shared", "two.npz")] {
        scene.succeeds(&["sample", model, "--seeds", "0-9", "--out", out]);
    }
    assert_eq!(
        fs::read(scene.path("one.npz")).unwrap(),
        fs::read(scene.path("two.npz")).unwrap()
    );
    let info: Value = serde_json::from_str(&scene.succeeds(&["info", "shared", "--json"])).unwrap();
    assert_eq!(info["content"], "as its recorded hash says");
    // The weights are those of the run, to the bit.
    let of_run = fs::read(scene.path("run/model.safetensors")).unwrap();
    assert_eq!(
        fs::read(scene.path("shared/model.safetensors")).unwrap(),
        of_run
    );
}

#[test]
fn a_card_names_no_path_of_the_machine_and_a_folder_is_filled_once() {
    let scene = Scene::new();
    scene.trained("run");
    scene.succeeds(&words(
        "export hf run --out shared --license mit --dataset me/boards",
    ));
    let card = fs::read_to_string(scene.path("shared/README.md")).unwrap();
    for line in [
        "license: mit",
        "- me/boards",
        "# shared",
        "20 steps of 32 samples.",
        "the moving average `0.9`",
    ] {
        assert!(card.contains(line), "{line}\n{card}");
    }
    assert!(
        !card.contains(scene.path("").to_str().unwrap()),
        "a path of this machine: {card}"
    );
    // Again by the same command it is refused, by force it is the same.
    let error = scene.fails(2, &["export", "hf", "run", "--out", "shared"]);
    assert!(error.contains("--force"), "{error}");
    scene.succeeds(&[
        "export", "hf", "run", "--out", "shared", "--force", "--json",
    ]);
    scene.succeeds(&["export", "hf", "shared", "--out", "copy"]);
    assert_eq!(
        fs::read(scene.path("copy/config.json")).unwrap(),
        fs::read(scene.path("shared/config.json")).unwrap()
    );
}

#[test]
fn a_config_that_disagrees_with_its_weights_is_refused_by_every_command() {
    let scene = Scene::new();
    scene.trained("run");
    scene.succeeds(&["export", "hf", "run", "--out", "shared"]);
    let path = scene.path("shared/config.json");
    let text = fs::read_to_string(&path)
        .unwrap()
        .replace("\"width\": 16", "\"width\": 32");
    fs::write(&path, text).unwrap();
    let commands: [&[&str]; 4] = [
        &["info", "shared"],
        &["sample", "shared", "--seeds", "1", "--out", "x.npz"],
        &["eval", "shared"],
        &["export", "onnx", "shared", "--out", "x.onnx"],
    ];
    for command in commands {
        let error = scene.fails(5, command);
        assert!(
            error.contains("model.network.width: expected 16") && error.contains("got 32"),
            "{error}"
        );
    }
}

#[test]
fn values_of_a_report_stand_in_the_card_if_they_are_about_these_weights() {
    let scene = Scene::new();
    scene.trained("run");
    let weights = scene.path("run/model.safetensors");
    let info: Value = serde_json::from_str(&scene.succeeds(&["info", "run", "--json"])).unwrap();
    let report = |sha256: &str| {
        let text = format!(
            r#"{{"protocol": {{"model": {{"name": "x", "sha256": "{sha256}"}}, "reference": {{"name": "boards"}}, "samples": 20}},
            "samplers": [{{"name": "meanflow 1", "metrics": {{"fd_pixels": {{"mean": 1.5, "interval": [1.0, 2.0], "values": [1.25, 1.75]}}}}}}]}}"#
        );
        fs::write(weights.with_file_name("report.json"), text).unwrap();
    };
    report(info["sha256"].as_str().unwrap());
    scene.succeeds(&["export", "hf", "run", "--out", "measured"]);
    let card = fs::read_to_string(scene.path("measured/README.md")).unwrap();
    assert!(
        card.contains("| fd_pixels | meanflow 1 | 1.500 ± 0.5000 | 20 | boards |"),
        "{card}"
    );
    assert!(card.contains("      value: 1.5\n"), "{card}");
    report(&"0".repeat(64));
    scene.succeeds(&["export", "hf", "run", "--out", "unmeasured"]);
    let card = fs::read_to_string(scene.path("unmeasured/README.md")).unwrap();
    assert!(!card.contains("fd_pixels"), "{card}");
    let error = scene.fails(
        2,
        &words("export hf run --out asked --report run/report.json"),
    );
    assert!(error.contains("other weights"), "{error}");
}

#[test]
fn an_onnx_graph_says_what_goes_in_and_out() {
    let scene = Scene::new();
    scene.trained("run");
    let said = scene.succeeds(&[
        "export", "onnx", "run", "--steps", "2", "--out", "two.onnx", "--json",
    ]);
    let said: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(said["inputs"][0]["name"], "noise");
    assert_eq!(
        said["outputs"][0]["shape"],
        serde_json::json!(["batch", "2"])
    );
    assert_eq!(
        said["files"][0]["bytes"],
        fs::metadata(scene.path("two.onnx")).unwrap().len()
    );
    let text = scene.succeeds(&["export", "onnx", "run", "--out", "one.onnx"]);
    assert!(text.contains("input    noise    f32 [batch, 2]"), "{text}");
    for (out, words) in [
        ("one.bin", "NAME.onnx"),
        ("no/one.onnx", "no folder no"),
        ("run", "NAME.onnx"),
    ] {
        let error = scene.fails(2, &["export", "onnx", "run", "--out", out]);
        assert!(error.contains(words), "{error}");
    }
}

/// A hub on this machine that has one model; its address.
fn hub(folder: PathBuf) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            answer(stream.unwrap(), &folder);
        }
    });
    address
}

fn answer(mut stream: TcpStream, folder: &Path) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    let first = lines.next().unwrap().unwrap();
    for line in lines {
        if line.unwrap().is_empty() {
            break;
        }
    }
    let path = first.split(' ').nth(1).unwrap().to_owned();
    let body = match path.strip_prefix(&format!("/owner/name/resolve/{COMMIT}/")) {
        Some(name) => fs::read(folder.join(name)).unwrap(),
        None if path == "/api/models/owner/name/revision/v1" => {
            format!(r#"{{"sha": "{COMMIT}", "siblings": [{{"rfilename": "config.json"}}, {{"rfilename": "model.safetensors"}}]}}"#).into_bytes()
        }
        None => {
            stream.write_all(b"HTTP/1.1 404 x\r\nconnection: close\r\ncontent-length: 0\r\n\r\n").unwrap();
            return;
        }
    };
    let head = format!(
        "HTTP/1.1 200 x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(&body).unwrap();
}

/// Runs the program with this hub and a cache of its own; exit code and standard error.
fn run_with(scene: &Scene, endpoint: &str, arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = scene.command(arguments);
    command
        .env("HF_ENDPOINT", endpoint)
        .env("HF_HOME", scene.path("cache"))
        .env_remove("HF_HUB_OFFLINE");
    let output = command.output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    (output.status.code(), error)
}

const NAME: &str = "hf:owner/name@v1";
/// An address at which nobody answers.
const NOBODY: &str = "http://127.0.0.1:9";

#[test]
fn a_model_of_a_hub_is_opened_by_its_name_and_offline_afterwards() {
    let scene = Scene::new();
    scene.trained("run");
    scene.succeeds(&["export", "hf", "run", "--out", "shared"]);
    let endpoint = hub(scene.path("shared"));
    let sample = ["sample", NAME, "--seeds", "0-3", "--out", "hub.npz"];
    let (code, error) = run_with(&scene, &endpoint, &sample);
    assert_eq!(code, Some(0), "{error}");
    assert!(error.contains(COMMIT), "{error}");
    scene.succeeds(&["sample", "run", "--seeds", "0-3", "--out", "run.npz"]);
    assert_eq!(
        fs::read(scene.path("hub.npz")).unwrap(),
        fs::read(scene.path("run.npz")).unwrap()
    );
    let snapshot = format!("cache/hub/models--owner--name/snapshots/{COMMIT}");
    assert!(scene.path(&snapshot).join("model.safetensors").is_file());
    let (code, error) = run_with(&scene, NOBODY, &["info", NAME, "--offline"]);
    assert_eq!(code, Some(0), "{error}");
}

#[test]
fn names_that_lead_to_no_model_say_why() {
    let scene = Scene::new();
    let endpoint = hub(scene.path("nothing"));
    let cases: [(&str, &[&str], i32, &str); 5] = [
        (
            NOBODY,
            &["info", NAME, "--offline"],
            2,
            "not fetched before",
        ),
        (&endpoint, &["info", "hf:owner/other"], 2, "404"),
        (&endpoint, &["info", "hf:owner"], 2, "hf:OWNER/NAME"),
        ("http://hub.example", &["info", NAME], 2, "HF_ENDPOINT"),
        (NOBODY, &["info", NAME], 1, "127.0.0.1:9"),
    ];
    for (endpoint, arguments, expected, words) in cases {
        let (code, error) = run_with(&scene, endpoint, arguments);
        assert_eq!(
            (code, error.contains(words)),
            (Some(expected), true),
            "{words}: {error}"
        );
    }
}
