//! Help, manual pages, completions, reports for programs, and standard output as a file.

use std::fs;

use serde_json::Value;

use crate::support::Scene;

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// Commands with their help, found from the help of the program and of its groups.
fn commands(scene: &Scene, above: &[&str]) -> Vec<Vec<String>> {
    let help = scene.succeeds(&[above, &["--help"]].concat());
    let lines = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let lines = lines.take_while(|line| !line.is_empty());
    let names = lines
        .filter(|line| !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next());
    let mut all = Vec::new();
    for name in names.filter(|name| *name != "help") {
        let command: Vec<&str> = [above, &[name]].concat();
        all.extend(commands(scene, &command));
        all.push(command.into_iter().map(str::to_owned).collect());
    }
    all
}

/// Every command, the program itself last, and its help.
fn helps(scene: &Scene) -> Vec<(Vec<String>, String)> {
    let all = commands(scene, &[]).into_iter().chain([Vec::new()]);
    all.map(|words| {
        let line = words.iter().map(String::as_str).chain(["--help"]);
        let help = scene.succeeds(&line.collect::<Vec<_>>());
        (words, help)
    })
    .collect()
}

#[test]
fn the_help_of_every_command_fits_into_eighty_columns() {
    let scene = Scene::new();
    let all = helps(&scene);
    assert!(all.len() > 20, "{all:?}");
    for (words, help) in all {
        assert!(
            help.lines().all(|line| line.chars().count() <= 80),
            "{words:?}: {help}"
        );
        // An example that clap had to break could not be copied.
        let examples = help
            .lines()
            .skip_while(|line| !line.starts_with("Example"))
            .skip(1);
        for pair in examples.collect::<Vec<_>>().windows(2) {
            let is_whole = pair[1].starts_with("  meanflow ") || pair[0].ends_with('\\');
            assert!(is_whole, "{words:?}: {pair:?}");
        }
    }
}

#[test]
fn shells_and_man_know_every_command() {
    let scene = Scene::new();
    for shell in ["bash", "zsh", "fish"] {
        let script = scene.succeeds(&["completions", shell]);
        for word in ["fast-dev-run", "doctor", "imagenet256-b4"] {
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
    assert!(scene.succeeds(&["man"]).contains(".TH meanflow 1"));
    let said = scene.succeeds(&["man", "--out", "man1"]);
    let pages = fs::read_dir(scene.path("man1")).unwrap().count();
    assert!(
        said.contains(&format!("{pages} pages")) && pages >= 20,
        "{said}"
    );
    let page = fs::read_to_string(scene.path("man1/meanflow-data-pack.1")).unwrap();
    assert!(page.contains("one zip archive"), "{page}");
}

#[test]
fn the_doctor_says_what_there_is() {
    let scene = Scene::new();
    let facts = json(&scene.succeeds(&["doctor", "--json"]));
    assert!(
        facts["libtorch"].as_str().unwrap().starts_with("2.11."),
        "{facts}"
    );
    for key in ["cores", "threads", "free_disk_mib", "memory_mib"] {
        assert!(facts[key].as_u64().unwrap() > 0, "{key}: {facts}");
    }
    let file = facts["libtorch_file"].as_str().unwrap();
    assert!(fs::metadata(file).is_ok(), "{file}");
    let text = scene.succeeds(&["doctor"]);
    assert_eq!(text.lines().count(), facts.as_object().unwrap().len());
}

#[test]
fn reports_and_errors_are_json_if_that_is_asked_for() {
    let scene = Scene::new();
    let recipe = scene.recipe();
    let trial = json(&scene.succeeds(&["train", &recipe, "--fast-dev-run", "--json"]));
    assert_eq!(
        (&trial["outcome"], &trial["run"]),
        (&"finished".into(), &Value::Null)
    );
    let resolved = json(&scene.succeeds(&["--json", "train", &recipe, "-n"]));
    assert_eq!(resolved["training"]["steps"], 20);
    let run = json(&scene.succeeds(&["train", &recipe, "--json"]));
    assert_eq!(run["weights"], "runs/tiny/model.safetensors");
    let check = json(&scene.succeeds(&["check", &recipe, "--json"]));
    assert_eq!(
        (&check["passes"], &check["jvp_methods"][0]["jvp"]),
        (&true.into(), &"dual".into())
    );
    for (code, arguments) in [
        (5, ["info", "nowhere.safetensors", "--json"]),
        (3, ["validate", "nowhere.toml", "--json"]),
        (2, ["train", "--no-such-option", "--json"]),
    ] {
        let output = scene.command(&arguments).output().unwrap();
        let error = json(&String::from_utf8(output.stdout).unwrap());
        assert_eq!(output.status.code(), Some(code));
        assert_eq!(error["error"]["exit_code"], code, "{error}");
        assert!(!error["error"]["message"].as_str().unwrap().is_empty());
    }
}

#[test]
fn a_picture_goes_to_standard_output() {
    let scene = Scene::new();
    scene.trained("run");
    let sample = ["sample", "run", "--seeds", "0-99", "--out"];
    scene.succeeds(&[&sample[..], &["grid.png"]].concat());
    let output = scene
        .command(&[&sample[..], &["-"]].concat())
        .output()
        .unwrap();
    assert_eq!(output.stdout, fs::read(scene.path("grid.png")).unwrap());
    assert!(
        String::from_utf8(output.stderr)
            .unwrap()
            .contains("100 samples")
    );
    scene.fails(2, &[&sample[..], &["-", "--json"]].concat());
}

/// `cargo xtask docs` writes it anew.
#[test]
fn the_reference_of_commands_is_the_help() {
    let scene = Scene::new();
    let page = include_str!("../../../../docs/src/cli.md");
    let all = helps(&scene);
    let sections = page.matches("\n```text\n").count();
    assert_eq!(sections, all.len(), "run `cargo xtask docs`");
    for (words, help) in all {
        let lines: Vec<&str> = help.lines().map(str::trim_end).collect();
        let block = format!("```text\n{}\n```", lines.join("\n").trim_end());
        assert!(
            page.contains(&block),
            "{words:?} is another one: run `cargo xtask docs`"
        );
    }
}
