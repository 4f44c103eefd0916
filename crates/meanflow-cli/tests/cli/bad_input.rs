//! Whatever is wrong with what a user gives: a clear message, its exit code, and nothing overwritten.

use std::fs;

use crate::support::{RECIPE, Scene, words};
use meanflow_torch::{Tensor, weights};

#[test]
fn a_bad_recipe_is_refused_with_its_place() {
    let scene = Scene::new();
    for (from, to, place, words) in [
        (
            "peak = 1e-2",
            "peak = nan",
            "bad.toml:8:39: lr.peak",
            "expected a finite number, got NaN",
        ),
        (
            "peak = 1e-2",
            "peek = 1e-2",
            "bad.toml:8:32: lr.peek",
            "unknown field",
        ),
        (
            "batch_size = 32",
            "batch_size = 0",
            "training.batch_size",
            "nonzero",
        ),
        ("norm_p = 1.0", "norm_p = -1.0", "bad.toml:9:", "norm_p"),
        (
            "count = 0.5",
            "count = 1.5",
            "bad.toml:16:",
            "mean_flow_ratio",
        ),
        ("seed = 3", "seed = ", "bad.toml:2:8", ""),
    ] {
        assert!(RECIPE.contains(from), "{from}");
        let config = scene.file("bad.toml", &RECIPE.replacen(from, to, 1));
        for command in ["validate", "train"] {
            let error = scene.fails(3, &[command, &config]);
            assert!(error.contains(place) && error.contains(words), "{error}");
        }
    }
    assert!(!scene.path("runs").exists());
}

#[test]
fn guidance_that_cannot_be_is_refused() {
    let scene = Scene::new();
    let guided = |kappa: &str, interval: &str| {
        format!("{RECIPE}\n[guidance]\nomega = 1.0\nkappa = {kappa}\ninterval = [{interval}]\n")
    };
    let config = scene.file("kappa.toml", &guided("1.0", "0.0, 1.0"));
    assert!(scene.fails(3, &["validate", &config]).contains("kappa"));
    let config = scene.file("interval.toml", &guided("0.5", "0.8, 0.2"));
    assert!(scene.fails(3, &["validate", &config]).contains("guidance"));
}

#[test]
fn an_override_is_blamed_by_name() {
    let scene = Scene::new();
    let config = scene.recipe();
    let error = scene.fails(3, &["train", &config, "--set", "lr.peak=-1"]);
    assert!(error.contains("--set lr.peak=-1"), "{error}");
    let error = scene.fails(3, &["train", &config, "--set", "lr"]);
    assert!(error.contains("KEY=VALUE"), "{error}");
    scene.fails(3, &["train", &config, "--set", "training.bacth=1"]);
}

#[test]
fn a_missing_or_truncated_data_file_is_named() {
    let scene = Scene::new();
    let data = scene.path("data");
    let overrides =
        |path: &str| format!("data={{ kind = \"idx\", path = \"{path}\", conditional = false }}");
    let network = "network={ kind = \"dit\", patch = 2, width = 16, depth = 1, heads = 2, mlp_ratio = 2.0, embedding = \"th\" }";
    let data_override = overrides(data.to_str().unwrap());
    let arguments = [
        "validate",
        &scene.recipe(),
        "--set",
        &data_override,
        "--set",
        network,
    ];
    assert!(scene.fails(4, &arguments).contains("idx3-ubyte"));

    fs::create_dir(&data).unwrap();
    let header = [0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 4, 0, 0, 0, 4];
    fs::write(
        data.join("images-idx3-ubyte"),
        [&header[..], &[0; 31]].concat(),
    )
    .unwrap();
    fs::write(
        data.join("labels-idx1-ubyte"),
        [0, 0, 8, 1, 0, 0, 0, 2, 0, 1],
    )
    .unwrap();
    assert!(
        scene
            .fails(4, &arguments)
            .contains("expected 32 bytes, got 31")
    );
    fs::write(
        data.join("images-idx3-ubyte"),
        [&header[..], &[0; 32]].concat(),
    )
    .unwrap();
    scene.succeeds(&arguments);
}

type Tensors = Vec<(String, Tensor)>;

#[test]
fn weights_that_do_not_fit_are_refused_tensor_by_tensor() {
    let scene = Scene::new();
    let header = weights::header(&scene.trained("run")).unwrap();
    let zeros = |shape: &[i64]| Tensor::zeros(shape, (tch::Kind::Float, tch::Device::Cpu));
    let bias = header
        .tensors
        .iter()
        .position(|one| one.name.contains("bias"))
        .unwrap();
    let name = header.tensors[bias].name.as_str();
    let refused = |change: &dyn Fn(&mut Tensors), said: [&str; 2]| {
        let tensors = header.tensors.iter();
        let mut tensors = tensors
            .map(|one| (one.name.clone(), zeros(&one.shape)))
            .collect();
        change(&mut tensors);
        weights::save(
            &scene.path("x.safetensors"),
            &tensors,
            header.metadata.clone(),
        )
        .unwrap();
        let error = scene.fails(5, &words("sample x.safetensors --seeds 0-3 --out x.png"));
        assert!(said.iter().all(|word| error.contains(word)), "{error}");
        assert!(!scene.path("x.png").exists());
    };
    refused(&|all| drop(all.remove(bias)), ["missing", name]);
    refused(
        &|all| all.push(("a.bias".into(), zeros(&[3]))),
        ["unexpected", "a.bias"],
    );
    refused(&|all| all[bias].1 = zeros(&[3]), ["expected shape", name]);
    // A shape that would broadcast silently.
    refused(&|all| all[bias].1 = zeros(&[1]), ["expected shape", name]);
    refused(
        &|all| all[bias].1 = all[bias].1.to_kind(tch::Kind::Double),
        ["expected type", name],
    );
}

#[test]
fn other_files_than_weights_are_refused() {
    let scene = Scene::new();
    for extension in ["pt", "pth", "ckpt", "pkl", "bin"] {
        let path = scene.file(&format!("model.{extension}"), "x");
        for command in [
            &["info", &path][..],
            &["sample", &path, "--seeds", "0", "--out", "x.png"],
        ] {
            assert!(scene.fails(5, command).contains("safetensors"));
        }
    }
    let path = scene.file("model.safetensors", "no weights at all");
    scene.fails(5, &["info", &path]);
    let path = scene.path("nowhere/model.safetensors");
    scene.fails(5, &["info", path.to_str().unwrap()]);

    let trained = scene.trained("run");
    let bytes = fs::read(&trained).unwrap();
    fs::write(&trained, &bytes[..bytes.len() - 1]).unwrap();
    assert!(
        scene
            .fails(5, &["info", trained.to_str().unwrap()])
            .contains("truncated")
    );
}

#[test]
fn a_run_directory_belongs_to_one_process() {
    let scene = Scene::new();
    let held = meanflow_train::RunDir::open(&scene.path("run")).unwrap();
    let arguments = ["train", &scene.recipe(), "--out", "run"];
    assert!(scene.fails(2, &arguments).contains("in use"));
    drop(held);
    scene.succeeds(&arguments);
}

#[test]
fn other_peoples_folders_are_left_alone() {
    let scene = Scene::new();
    fs::create_dir(scene.path("home")).unwrap();
    scene.file("home/thesis.tex", "text");
    assert!(
        scene
            .fails(2, &["train", &scene.recipe(), "--out", "home"])
            .contains("other files")
    );
    let trained = scene.trained("run");
    let sample = [
        "sample",
        trained.to_str().unwrap(),
        "--seeds",
        "0",
        "--out",
        "home",
    ];
    assert!(scene.fails(2, &sample).contains("not empty"));
    assert_eq!(fs::read_dir(scene.path("home")).unwrap().count(), 1);
}

#[test]
fn damaged_checkpoints_end_the_run_before_it_starts_over() {
    let scene = Scene::new();
    scene.trained("run");
    for entry in fs::read_dir(scene.path("run/checkpoints")).unwrap() {
        fs::write(entry.unwrap().path().join("optimizer.safetensors"), "").unwrap();
    }
    let error = scene.fails(5, &["train", &scene.recipe(), "--out", "run"]);
    assert!(
        error.contains("optimizer.safetensors: expected") && error.contains("hint"),
        "{error}"
    );
}

#[test]
fn a_changed_recipe_does_not_go_on_with_the_run() {
    let scene = Scene::new();
    scene.trained("run");
    let error = scene.fails(
        3,
        &[
            "train",
            &scene.recipe(),
            "--out",
            "run",
            "--set",
            "network.width=32",
        ],
    );
    assert!(error.contains("network.width: was 16, is 32"), "{error}");
}

#[test]
fn no_room_on_the_disk_keeps_what_was_there() {
    let scene = Scene::new();
    // A limit on file size stands for a full disk; the signal that comes with it is ignored, as a disk sends none.
    let script = "trap '' XFSZ; ulimit -f 8; exec \"$@\"";
    // Under a constant rate a run may be lengthened.
    let constant = "lr={ schedule = \"constant\", peak = 1e-2, warmup_steps = 0 }";
    let recipe = scene.recipe();
    let arguments = |out| ["train", &recipe, "--set", constant, "--out", out];
    let train = |out, more| scene.runs_under(script, &[&arguments(out)[..], more].concat());
    let (code, error) = train("new", &["--set", "training.sample_every=1000"]);
    assert_eq!(code, 6, "{error}");
    assert!(
        error.contains("hint: nothing that was there before is damaged"),
        "{error}"
    );
    assert_eq!(
        names(&scene, "new/checkpoints"),
        [""; 0],
        "nothing half-written is left"
    );
    // A run that had a checkpoint keeps it.
    scene.succeeds(&arguments("old"));
    let before = (
        names(&scene, "old/checkpoints"),
        fs::read(scene.path("old/model.safetensors")).unwrap(),
    );
    let (code, error) = train("old", &["--set", "training.steps=40"]);
    assert_eq!(code, 6, "{error}");
    assert_eq!(names(&scene, "old/checkpoints"), before.0);
    assert_eq!(
        fs::read(scene.path("old/model.safetensors")).unwrap(),
        before.1
    );
}

fn names(scene: &Scene, folder: &str) -> Vec<String> {
    let entries = fs::read_dir(scene.path(folder)).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort_unstable();
    names
}

#[test]
fn a_loss_that_is_not_finite_has_its_own_code() {
    let scene = Scene::new();
    let recipe = scene.recipe();
    for (rate, reason) in [
        ("lr.peak=1e30", "10 steps in a row"),
        ("lr.peak=1e300", "not finite after the update of step 1"),
    ] {
        let error = scene.fails(7, &["train", &recipe, "--set", rate, "--out", "run"]);
        assert!(error.contains(reason), "{error}");
    }
}

#[test]
fn wrong_usage_has_the_usual_code() {
    let scene = Scene::new();
    scene.fails(2, &[]);
    scene.fails(2, &["tarin"]);
    let run = scene.trained("run");
    let run = run.to_str().unwrap();
    for arguments in [
        &["--seeds", "3-1", "--out", "x.png"][..],
        &["--seeds", "0", "--out", "x.jpg"],
        &["--seeds", "0", "--out", "x.png", "--steps", "0"],
        &["--seeds", "0", "--out", "x.png", "--class", "3"],
        &["--seeds", "0", "--out", "no/such/folder/x.png"],
        &["--seeds", "0", "--out", "folder"],
    ] {
        scene.fails(2, &[&["sample", run], arguments].concat());
    }
    scene.fails(
        8,
        &[
            "sample", run, "--seeds", "0", "--out", "x.png", "--device", "tpu",
        ],
    );
}
