//! `meanflow serve` as a program: how it starts, what it refuses, how it ends.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Stdio};

use base64::Engine;
use meanflow_data::npy::NpyData;
use meanflow_data::npz::Npz;
use serde_json::Value;

use crate::support::{Scene, words};

/// A running server, which ends when this is dropped.
struct Serving {
    child: Child,
    host: String,
}

impl Serving {
    fn start(scene: &Scene, arguments: &[&str]) -> Self {
        let all = [&["serve"], arguments, &["--bind", "127.0.0.1:0", "--json"]].concat();
        let mut child = scene
            .command(&all)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let stdout = child.stdout.take().unwrap();
        BufReader::new(stdout).read_line(&mut line).unwrap();
        let said: Value = serde_json::from_str(&line).unwrap();
        let url = said["url"].as_str().unwrap();
        let host = url.trim_start_matches("http://").trim_end_matches('/');
        Self {
            child,
            host: host.to_owned(),
        }
    }

    /// The body of an answer.
    fn get(&self, path: &str) -> String {
        self.ask("GET", path, "")
    }

    /// The body of the answer to a request with this one.
    fn ask(&self, method: &str, path: &str, body: &str) -> String {
        let mut stream = TcpStream::connect(&self.host).unwrap();
        let (host, length) = (&self.host, body.len());
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Type: application/json\r\n\
             Content-Length: {length}\r\n\r\n{body}"
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200"), "{path}: {head}");
        body.to_owned()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn runs_and_weights_are_served_and_a_signal_ends_it() {
    let scene = Scene::new();
    scene.trained("runs/first");
    scene.trained("runs/second");
    let mut server = Serving::start(&scene, &["runs", "runs/first/model.safetensors"]);
    let catalogue: Value = serde_json::from_str(&server.get("/api/catalogue")).unwrap();
    let ids = |of: &str| -> Vec<String> {
        let all = catalogue[of].as_array().unwrap().iter();
        all.map(|one| one["id"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(ids("models"), ["first", "second", "first-2"]);
    assert_eq!(ids("runs"), ["first", "second"]);
    let about: Value = serde_json::from_str(&server.get("/api/runs/second")).unwrap();
    assert_eq!(about["steps"], 20);
    assert_eq!(about["samples"], serde_json::json!([10, 20]));
    assert!(about["recipe"].as_str().unwrap().contains("checkerboard"));
    let metrics: Value = serde_json::from_str(&server.get("/api/runs/second/metrics")).unwrap();
    assert_eq!(metrics["records"].as_array().unwrap().len(), 20);
    assert_eq!(metrics["next"], metrics["bytes"]);
    let rest: Value = serde_json::from_str(&server.get(&format!(
        "/api/runs/second/metrics?from={}",
        metrics["next"]
    )))
    .unwrap();
    assert_eq!(rest["records"], serde_json::json!([]));
    assert!(server.get("/").contains("<title>meanflow</title>"));
    let id = server.child.id().to_string();
    assert!(
        std::process::Command::new("kill")
            .args(["-TERM", &id])
            .status()
            .unwrap()
            .success()
    );
    assert_eq!(server.child.wait().unwrap().code(), Some(0));
}

/// What the page shows of a model of latents is what `sample --vae` writes.
#[test]
fn latents_are_served_as_the_pictures_of_their_vae() {
    let scene = Scene::new();
    crate::latents::trained(&scene);
    let server = Serving::start(&scene, &["run", "--vae", "vae"]);
    let catalogue: Value = serde_json::from_str(&server.get("/api/catalogue")).unwrap();
    assert_eq!(
        catalogue["models"][0]["picture"],
        serde_json::json!([3, 8, 8])
    );
    let request = r#"{"model": "run", "seeds": [5], "class": "3", "steps": 1}"#;
    let answer: Value = serde_json::from_str(&server.ask("POST", "/api/sample", request)).unwrap();
    let png = answer["samples"][0]["png"].as_str().unwrap();
    let png = base64::prelude::BASE64_STANDARD.decode(png).unwrap();
    let pixels = image::load_from_memory(&png).unwrap().to_rgb8().into_raw();
    let sample = "sample run --vae vae --class 3 --seeds 5 --out five.npz";
    scene.succeeds(&sample.split(' ').collect::<Vec<_>>());
    let mut file = Npz::open(&scene.path("five.npz"), 1 << 20).unwrap();
    assert_eq!(file.read("arr_0").unwrap().data, NpyData::U8(pixels));
}

#[test]
fn what_cannot_be_served_is_refused() {
    let scene = Scene::new();
    let weights = scene.trained("run");
    let weights = weights.to_str().unwrap();
    let error = scene.fails(2, &["serve", "nothing"]);
    assert!(
        error.contains("nothing") && error.contains("run directory"),
        "{error}"
    );
    let error = scene.fails(2, &["serve", weights, "--bind", "0.0.0.0:0"]);
    assert!(error.contains("--token-file"), "{error}");
    let short = scene.file("token", "short\n");
    let error = scene.fails(
        2,
        &words(&format!(
            "serve {weights} --bind 0.0.0.0:0 --token-file {short}"
        )),
    );
    assert!(error.contains("16") && !error.contains("short"), "{error}");
    let other = scene.file("other.safetensors", "not weights");
    scene.fails(5, &["serve", &other]);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let error = scene.fails(1, &["serve", weights, "--bind", &address]);
    assert!(error.contains(&address), "{error}");
}

/// What a page is after its scripts ran, in a real browser; none where there is no Chromium. It must not complain.
fn rendered(url: &str, folder: &std::path::Path) -> Option<String> {
    let output = std::process::Command::new("chromium")
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--enable-logging=stderr",
        ])
        .args(["--virtual-time-budget=8000", "--dump-dom"])
        .arg(format!("--user-data-dir={}", folder.display()))
        .arg(url)
        .output()
        .ok()?;
    let log = String::from_utf8_lossy(&output.stderr);
    let complaints: Vec<&str> = log
        .lines()
        .filter(|line| line.contains("CONSOLE"))
        .collect();
    assert!(complaints.is_empty(), "{url}: {complaints:?}");
    Some(String::from_utf8(output.stdout).unwrap())
}

#[test]
fn the_page_works_in_a_browser() {
    let scene = Scene::new();
    scene.trained("runs/first");
    let server = Serving::start(&scene, &["runs"]);
    let page = |part: &str| {
        rendered(
            &format!("http://{}/{part}", server.host),
            &scene.path("browser"),
        )
    };
    let Some(studio) = page("#studio") else {
        println!("skipped: no Chromium");
        return;
    };
    // Points of the plane, drawn by one evaluation; no problem is shown.
    assert!(
        studio.contains("2048 points of the plane") && studio.contains("1 evaluation"),
        "{studio}"
    );
    assert!(
        studio.contains("id=\"problem\" class=\"problem\" role=\"alert\" hidden"),
        "{studio}"
    );
    let runs = page("#runs").unwrap();
    for expected in [
        "step 20 of 20",
        "v_loss",
        "Samples after step 20",
        "checkerboard",
    ] {
        assert!(runs.contains(expected), "{expected}: {runs}");
    }
    assert!(
        runs.contains("id=\"problem\" class=\"problem\" role=\"alert\" hidden"),
        "{runs}"
    );
}
