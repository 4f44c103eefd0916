//! `meanflow eval`.

use std::fs;
use std::path::Path;

use meanflow_data::Picture;
use meanflow_torch::Model;
use serde_json::Value;
use tch::{Device, no_grad};

use crate::support::{Scene, words};

const DIGITS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../configs/digits.toml");

fn report(folder: &Path) -> Value {
    serde_json::from_slice(&fs::read(folder.join("report.json")).unwrap()).unwrap()
}

fn mean(report: &Value, sampler: usize, metric: &str) -> f64 {
    let mean = &report["samplers"][sampler]["metrics"][metric]["mean"];
    mean.as_f64()
        .unwrap_or_else(|| panic!("{metric}: {report}"))
}

#[test]
fn data_is_as_good_as_itself() {
    let scene = Scene::new();
    scene.succeeds(&["eval", DIGITS, "--ref", DIGITS, "--out", "r"]);
    let report = report(&scene.path("r"));
    // Of two equal sets of 64 features whose squares sum to hundreds; roundings of f64 through a square root.
    assert!(mean(&report, 0, "fd_digits").abs() < 1e-6);
    assert_eq!(
        (mean(&report, 0, "precision"), mean(&report, 0, "recall")),
        (1.0, 1.0)
    );
    // A classifier that was trained on labels smoothed by 0.05 is right when it gives its class 0.955 and the others 0.005 each: then
    // the score over ten balanced classes is 7.54. It is less sure of some.
    assert!((6.0..7.54).contains(&mean(&report, 0, "is_digits")));
    let classes = report["samplers"][0]["classes"].as_array().unwrap();
    let number = |count: &Value, key: &str| count[key].as_u64().unwrap();
    let counts: Vec<[u64; 2]> = classes
        .iter()
        .map(|count| [number(count, "found"), number(count, "asked")])
        .collect();
    assert_eq!(counts.iter().map(|[_, asked]| asked).sum::<u64>(), 1797);
    let found = counts.iter().map(|[found, _]| found).sum::<u64>();
    // The classifier names 97.5 % even of what it was not shown.
    assert!(found > 1760, "{counts:?}");
    assert_eq!(mean(&report, 0, "class_accuracy"), found as f64 / 1797.0);
    assert_eq!(report["memorisation"]["sample_to_data"], 0.0);
    assert!(report["residuals"].is_null());
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
fn a_checkpoint_of_a_run_is_evaluated_apart_from_its_last_weights() {
    let scene = Scene::new();
    train_digits(&scene);
    let checkpoint = ["eval", "run", "--checkpoint", "4", "--ema", "0.999"];
    let error = scene.fails(2, &checkpoint);
    assert!(error.contains("--out DIR is needed"), "{error}");
    let more = ["--samples", "20", "--repeats", "1", "--steps", "1"];
    scene.succeeds(&[&checkpoint[..], &more, &["--metrics", "is", "--out", "r"]].concat());
    let subject = &report(&scene.path("r"))["protocol"]["model"]["name"];
    assert_eq!(
        subject,
        "run/checkpoints/step-00000004/ema-0.999.safetensors"
    );
}

#[test]
fn a_run_is_evaluated_without_being_told_how() {
    let scene = Scene::new();
    train_digits(&scene);
    let mut arguments = vec!["eval", "run", "--samples", "70", "--repeats", "2"];
    arguments.extend(["--steps", "1,3", "--ode", "heun:2"]);
    let table = scene.succeeds(&arguments);
    for word in [
        "1 step",
        "3 steps",
        "ODE heun:2",
        "NFE",
        "fd_digits",
        "class_accuracy",
    ] {
        assert!(table.contains(word), "{word}: {table}");
    }
    let report = report(&scene.path("run"));
    assert!(
        table
            .lines()
            .all(|line| line.chars().count() <= 80 || line.starts_with("note"))
    );
    let nfe: Vec<f64> = (0..3)
        .map(|sampler| report["samplers"][sampler]["nfe"].as_f64().unwrap())
        .collect();
    assert_eq!(nfe, [1.0, 3.0, 4.0]);
    let frechet = &report["samplers"][0]["metrics"]["fd_digits"];
    assert_eq!(frechet["values"].as_array().unwrap().len(), 2);
    assert_eq!(
        report["protocol"]["seeds"],
        "0 to 139, in order, a part for each repetition"
    );
    assert_eq!(report["protocol"]["ema"], "0.999");
    assert_eq!(
        report["residuals"]["consistency_residual"]
            .as_array()
            .unwrap()
            .len(),
        11
    );
    // The same seeds give the same figures.
    let again = scene.succeeds(&[&arguments[..], &["--json"]].concat());
    let again: Value = serde_json::from_str(&again).unwrap();
    assert_eq!(again["samplers"], report["samplers"]);
}

/// The Fréchet distance of NaN was 77.29 once.
#[test]
fn weights_and_samples_that_are_no_numbers_are_not_scored() {
    let scene = Scene::new();
    train_digits(&scene);
    let path = scene.path("run/model.safetensors");
    let (model, metadata) = Model::load(&path, Device::Cpu).unwrap();
    // Weights of NaN are refused; the samples of weights that are finite and huge are none.
    for (value, code) in [(f64::NAN, 5), (1e30, 7)] {
        for tensor in model.parameters().tensors() {
            let _ = no_grad(|| tensor.shallow_clone().fill_(value));
        }
        model.save(&path, metadata.clone()).unwrap();
        let error = scene.fails(code, &["eval", "run", "--samples", "64", "--out", "r"]);
        assert!(error.contains("NaN"), "{error}");
        assert!(!scene.path("r/report.json").exists());
    }
}

#[test]
fn a_page_has_all_parts_and_fetches_nothing() {
    let scene = Scene::new();
    train_digits(&scene);
    scene.succeeds(&words("eval run --samples 70 --repeats 1 --steps 1,2"));
    let page = fs::read_to_string(scene.path("run/report.html")).unwrap();
    for part in [
        "Metrics",
        "Samplers compared",
        "Classes",
        "Samples by class",
        "<th>data</th>",
        "Nearest neighbours",
        "Residuals",
        "Protocol",
    ] {
        assert!(page.contains(part), "{part}");
    }
    // 70 samples are enough for 64 features, and nothing says where on this machine the run is.
    assert!(!page.contains("biased"), "{page}");
    assert!(!page.contains(scene.path("").to_str().unwrap()));
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

/// Draws a part of the run's evaluation.
fn rank(scene: &Scene, rank: &str, world: &str, arguments: &[&str]) -> (i32, String) {
    let output = scene
        .command(arguments)
        .envs([("RANK", rank), ("WORLD_SIZE", world)])
        .output()
        .unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    (output.status.code().unwrap(), error)
}

#[test]
fn ranks_draw_parts_of_one_report() {
    let scene = Scene::new();
    train_digits(&scene);
    let arguments = |out| {
        let mut all = vec!["eval", "run", "--samples", "71", "--repeats", "2"];
        all.extend(["--steps", "1,2", "--out", out]);
        all
    };
    scene.succeeds(&arguments("whole"));
    let sharded = arguments("sharded");
    for part in ["0", "1", "2"] {
        let (code, error) = rank(&scene, part, "3", &sharded);
        assert_eq!(code, 0, "{error}");
        assert!(
            error.contains(&format!("{part}-of-3.safetensors")),
            "{error}"
        );
    }
    assert!(!scene.path("sharded/report.json").exists());
    scene.succeeds(&[&sharded[..], &["--merge"]].concat());
    let [whole, merged] = ["whole", "sharded"].map(|out| report(&scene.path(out)));
    for sampler in 0..2 {
        for (name, metric) in whole["samplers"][sampler]["metrics"].as_object().unwrap() {
            let (expected, got) = (
                metric["mean"].as_f64().unwrap(),
                mean(&merged, sampler, name),
            );
            // Batches of other sizes are multiplied in another order: 1e-7 of a feature of f32.
            let bound = 1e-5 * expected.abs().max(1e-3);
            assert!((got - expected).abs() < bound, "{name}: {expected}, {got}");
        }
        assert_eq!(
            whole["samplers"][sampler]["classes"],
            merged["samplers"][sampler]["classes"]
        );
    }
    assert_eq!(merged["protocol"]["ranks"], 3);
    assert_eq!(merged["protocol"]["device"], whole["protocol"]["device"]);
    assert_eq!(
        whole["memorisation"]["nearest"],
        merged["memorisation"]["nearest"]
    );
}

#[test]
fn parts_that_do_not_belong_together_are_refused() {
    let scene = Scene::new();
    train_digits(&scene);
    let arguments = words("eval run --samples 30 --steps 1 --metrics fid");
    let merge = [&arguments[..], &["--merge"]].concat();
    let none = scene.fails(2, &merge);
    assert!(none.contains("expected the parts of all ranks"), "{none}");
    let (code, error) = rank(&scene, "2", "2", &arguments);
    assert_eq!(code, 2);
    assert!(error.contains("got RANK 2, WORLD_SIZE 2"), "{error}");
    assert_eq!(rank(&scene, "1", "2", &arguments).0, 0);
    let missing = scene.fails(2, &merge);
    assert!(missing.contains("missing 0-of-2.safetensors"), "{missing}");
    let other_seed = [&arguments[..], &["--seed", "5"]].concat();
    assert_eq!(rank(&scene, "0", "2", &other_seed).0, 0);
    let another = scene.fails(2, &merge);
    assert!(
        another.contains("another evaluation: expected seeds"),
        "{another}"
    );
    assert_eq!(rank(&scene, "0", "2", &arguments).0, 0);
    scene.succeeds(&merge);
    let part = scene.path("run/parts/0-of-2.safetensors");
    let whole = fs::read(&part).unwrap();
    fs::write(&part, &whole[..whole.len() - 9]).unwrap();
    let broken = scene.fails(5, &merge);
    assert!(broken.contains("0-of-2.safetensors"), "{broken}");
    fs::copy(scene.path("run/model.safetensors"), &part).unwrap();
    let foreign = scene.fails(2, &merge);
    assert!(
        foreign.contains("expected form meanflow-eval-part-2"),
        "{foreign}"
    );
    assert_eq!(rank(&scene, "0", "3", &arguments).0, 0);
    let two = scene.fails(2, &merge);
    assert!(two.contains("parts of 2 ranks and of 3"), "{two}");
}

/// Writes grey squares, one for each name and side.
fn squares(scene: &Scene, files: &[(&str, u32)]) {
    for (index, (name, side)) in files.iter().enumerate() {
        let path = scene.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let pixels = vec![40 * index as u8; (side * side) as usize];
        let picture = Picture::new([*side as usize, *side as usize, 1], pixels).unwrap();
        fs::write(path, picture.to_png().unwrap()).unwrap();
    }
}

#[test]
fn pictures_of_other_sizes_are_refused_by_name() {
    let scene = Scene::new();
    squares(&scene, &[("one/a.png", 8), ("one/b.png", 8)]);
    squares(&scene, &[("other/a.png", 8), ("other/b.png", 9)]);
    for [set, reference] in [["one", "other"], ["other", "one"]] {
        let arguments = ["eval", set, "--ref", reference, "--out", "r"];
        let error = scene.fails(2, &arguments);
        assert!(error.contains("b.png") && error.contains("9×9"), "{error}");
    }
}

#[test]
fn a_reference_is_whatever_the_other_commands_open() {
    let scene = Scene::new();
    scene.succeeds(&[
        "eval",
        DIGITS,
        "--ref",
        "digits",
        "--metrics",
        "fid",
        "--out",
        "r",
    ]);
    let same = report(&scene.path("r"));
    // Of two equal sets, up to the rounding of f64 through a square root.
    assert!(mean(&same, 0, "fd_digits").abs() < 1e-6);
    assert_eq!(same["protocol"]["reference_pictures"], 1797);
    assert!(same["protocol"]["background"].is_null());
    for (name, said) in [("p.pkl", "a pickle is never read"), ("a.npy", "got .npy")] {
        scene.file(name, "x");
        let error = scene.fails(2, &["eval", DIGITS, "--ref", name, "--out", "s"]);
        assert!(
            error.contains(name) && error.contains("npz") && error.contains(said),
            "{error}"
        );
    }
}

/// Behind pixels that are seen through there is what `--background` says: white and a picture of white are the same.
#[test]
fn transparent_pictures_have_a_background() {
    let scene = Scene::new();
    fs::create_dir(scene.path("clear")).unwrap();
    fs::create_dir(scene.path("white")).unwrap();
    for name in ["a.png", "b.png"] {
        let clear = image::RgbaImage::from_pixel(8, 8, image::Rgba([9, 9, 9, 0]));
        clear.save(scene.path(&format!("clear/{name}"))).unwrap();
        let white = image::RgbImage::from_pixel(8, 8, image::Rgb([255; 3]));
        white.save(scene.path(&format!("white/{name}"))).unwrap();
    }
    let arguments = words("eval white --ref clear --features pixels --metrics fid --out r");
    let error = scene.fails(4, &arguments);
    assert!(
        error.contains("--background") && error.contains("2 of 2"),
        "{error}"
    );
    scene.succeeds(&[&arguments[..], &["--background", "white"]].concat());
    let report = report(&scene.path("r"));
    assert_eq!(mean(&report, 0, "fd_pixels"), 0.0);
    assert_eq!(report["protocol"]["background"], "white");
}

#[test]
fn classes_of_a_reference_are_those_of_the_model() {
    let scene = Scene::new();
    train_digits(&scene);
    squares(&scene, &[("ref/a/0.png", 8), ("ref/b/0.png", 8)]);
    let arguments = words("eval run --ref ref --metrics fid --steps 1");
    let error = scene.fails(2, &arguments);
    assert!(
        error.contains("the model has 10 classes, the reference has 2"),
        "{error}"
    );
    scene.succeeds(&[&arguments[..], &["--labels", "balanced", "--samples", "10"]].concat());
}

#[test]
fn a_metric_that_cannot_be_computed_is_refused_or_said() {
    let scene = Scene::new();
    squares(&scene, &[("set/a.png", 8), ("set/b.png", 8)]);
    let arguments = words("eval set --ref set --features pixels --out r");
    let table = scene.succeeds(&arguments);
    for text in [
        "not computed: precision: needs at least 4 samples, got 2",
        "is_pixels",
        "biased",
    ] {
        assert!(table.contains(text), "{text}: {table}");
    }
    let report = report(&scene.path("r"));
    assert_eq!(report["omitted"].as_array().unwrap().len(), 2);
    assert_eq!(report["protocol"]["kernel_distance"]["subset_size"], 2);
    let asked = scene.fails(2, &[&arguments[..], &["--metrics", "fid,is"]].concat());
    assert!(asked.contains("is_pixels cannot be computed"), "{asked}");
}

#[test]
fn seeds_end_at_the_last() {
    let scene = Scene::new();
    train_digits(&scene);
    let with = |seed: &str| {
        let mut all = vec![
            "eval",
            "run",
            "--samples",
            "10",
            "--repeats",
            "2",
            "--steps",
            "1",
        ];
        all.extend(["--metrics", "fid", "--seed"]);
        all.push(seed);
        all.iter()
            .map(|word| (*word).to_owned())
            .collect::<Vec<_>>()
    };
    let last = with("18446744073709551596");
    scene.succeeds(&last.iter().map(String::as_str).collect::<Vec<_>>());
    let beyond = with("18446744073709551597");
    let error = scene.fails(2, &beyond.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(error.contains("seeds beyond the last"), "{error}");
}

/// The README's second command in small: its average is of the end, not of the start.
#[test]
fn a_short_run_draws_more_than_noise() {
    let scene = Scene::new();
    let short = scene.succeeds(&["validate", DIGITS, "--set", "training.steps=500"]);
    // 0.999^500 = 0.606.
    assert!(short.contains("would hold 60.6 % of its start"), "{short}");
    let cold = ["--set", "training.steps=500", "--set", "ema.warmup=false"];
    let cold = scene.succeeds(&[&["validate", DIGITS][..], &cold].concat());
    assert!(cold.contains("still holds 60.6 %"), "{cold}");
    let mut train = vec!["train", DIGITS, "--out", "short"];
    for change in [
        "network.depth=1",
        "network.width=64",
        "training.batch_size=64",
        "training.steps=200",
        "training.checkpoint_every=200",
        "training.sample_every=200",
    ] {
        train.extend(["--set", change]);
    }
    scene.succeeds(&train);
    let mut eval = vec![
        "eval",
        "short",
        "--samples",
        "100",
        "--steps",
        "1",
        "--repeats",
        "1",
    ];
    eval.extend(["--metrics", "fid", "--features", "pixels"]);
    scene.succeeds(&eval);
    let distance = mean(&report(&scene.path("short")), 0, "fd_pixels");
    // The average without its warm-up is noise, 41 from the data; two halves of the data are 0.3 apart.
    assert!(distance < 20.0, "{distance}");
}
