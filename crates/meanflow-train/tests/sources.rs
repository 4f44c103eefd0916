//! Recipes over data on the disk: checked without it, refused when it is not what they say, and trained.

use std::fs::{self, File};
use std::path::Path;
use std::sync::atomic::AtomicBool;

use meanflow_data::Picture;
use meanflow_data::npy::{self, NpySlice, NpyView};
use meanflow_torch::Device;
use meanflow_train::{Outcome, Silent, TrainConfig, Trainer, train};

const RECIPE: &str = r#"
seed = 3
path = { kind = "linear" }
optimizer = { kind = "adam", beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8, weight_decay = 0.0 }
lr = { schedule = "constant", peak = 1e-3, warmup_steps = 0 }
loss = { norm_p = 1.0, norm_eps = 0.01, reduction = "sum" }
ema = { decays = [0.9] }
training = { batch_size = 3, steps = 2, checkpoint_every = 2, sample_every = 2 }
sampling = { grid = [2, 2], nfe = [1] }

[times]
t = { kind = "logit-normal", mean = -0.4, std = 1.0 }
mean_flow_ratio = { count = 0.5 }
order = "after-ordering"
"#;

const CIFAR: &str = r#"
network = { kind = "unet", channels = 4, multipliers = [1, 1], blocks = 1, attention = [16], filter = [1, 3, 3, 1], noise_ratio = 1, embedding = "th", augment = 6, dropout = 0.1 }
data = { kind = "cifar10", path = "FOLDER", conditional = false, flip = true, augment_probability = 0.12 }
"#;

const LATENTS: &str = r#"
network = { kind = "dit", patch = 2, width = 8, depth = 1, heads = 2, mlp_ratio = 2.0, embedding = "th" }
data = { kind = "latents", path = "FOLDER", conditional = true, flip = false, shape = [4, 4, 6], classes = 3, samples = 5 }
"#;

const PICTURES: &str = r#"
network = { kind = "dit", patch = 2, width = 8, depth = 1, heads = 2, mlp_ratio = 2.0, embedding = "th" }
data = { kind = "folder", path = "FOLDER", conditional = true, size = 4, channels = 3, flip = true }
"#;

fn parse(folder: &Path, sections: &str, overrides: &[&str]) -> Result<TrainConfig, String> {
    let sections = sections.replace("FOLDER", folder.to_str().unwrap());
    let overrides: Vec<String> = overrides.iter().map(ToString::to_string).collect();
    let text = format!("{sections}{RECIPE}");
    TrainConfig::parse(Path::new("test.toml"), &text, &overrides).map_err(|error| error.to_string())
}

/// What a wrong data section says.
fn refusal(folder: &Path, sections: &str, overrides: &[&str]) -> String {
    let config = parse(folder, sections, overrides).unwrap();
    config.data.load(config.seed).unwrap_err().to_string()
}

/// Five latents of [4, 4, 6] in three classes.
fn write_latents(folder: &Path) {
    let moments: Vec<f32> = (0..5 * 8 * 24)
        .map(|i| (i % 7) as f32 / 3.0 - 1.0)
        .collect();
    let write = |name: &str, shape: &[usize], data| {
        npy::write(&folder.join(name), NpyView { shape, data }).unwrap();
    };
    write("moments.npy", &[5, 8, 4, 6], NpySlice::F32(&moments));
    write("labels.npy", &[5], NpySlice::I64(&[0, 1, 2, 1, 0]));
    fs::write(folder.join("latents.toml"), "vae = \"x\"\nscale = 0.2\n").unwrap();
}

#[test]
fn a_recipe_is_checked_without_its_data() {
    let nowhere = Path::new("nowhere");
    let cifar = parse(nowhere, CIFAR, &[]).unwrap();
    let facts = cifar.data.facts(cifar.seed).unwrap();
    assert_eq!(
        (facts.samples, facts.classes, &facts.shape[..]),
        (50_000, 10, &[3, 32, 32][..])
    );
    assert_eq!(cifar.model(&facts.shape, facts.classes).unwrap().classes, 0);
    let latents = parse(nowhere, LATENTS, &[]).unwrap();
    let facts = latents.data.facts(latents.seed).unwrap();
    assert_eq!(
        (facts.samples, facts.classes, &facts.shape[..]),
        (5, 3, &[4, 4, 6][..])
    );
    let model = latents.model(&facts.shape, facts.classes).unwrap();
    assert!(model.parameter_count().unwrap() > 0 && model.classes == 3);
    for config in [cifar, latents] {
        assert_eq!(
            TrainConfig::parse(Path::new("again.toml"), &config.to_toml(), &[]).unwrap(),
            config
        );
    }
}

#[test]
fn data_that_is_missing_or_different_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    assert!(refusal(path, CIFAR, &[]).contains("data_batch_1.bin"));
    let hundred = refusal(path, CIFAR, &["data.kind=cifar100"]);
    assert!(hundred.contains("train.bin"), "{hundred}");
    assert!(refusal(path, LATENTS, &[]).contains("latents.toml"));
    write_latents(path);
    let mirrored = refusal(path, LATENTS, &["data.flip=true"]);
    assert!(mirrored.contains("moments_flip.npy"), "{mirrored}");
    let fewer = refusal(path, LATENTS, &["data.samples=4"]);
    assert!(
        fewer.contains("expected 4 of shape [4, 4, 6] in 3 classes, got 5 of shape [4, 4, 6]"),
        "{fewer}"
    );
    let other = refusal(path, LATENTS, &["data.shape=[4, 6, 4]"]);
    assert!(other.contains("expected 5 of shape [4, 6, 4]"), "{other}");
    let classes = refusal(path, LATENTS, &["data.classes=2"]);
    assert!(classes.contains("expected 0..2, got 2"), "{classes}");
}

#[test]
fn idx_files_hold_what_the_recipe_expects() {
    const IDX: &str = r#"
network = { kind = "dit", patch = 2, width = 8, depth = 1, heads = 2, mlp_ratio = 2.0, embedding = "th" }
data = { kind = "idx", path = "FOLDER", conditional = true, empty_classes = "keep", expect = { shape = [1, 2, 4], classes = 3, samples = 2 } }
"#;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let config = parse(path, IDX, &[]).unwrap();
    let facts = config.data.facts(0).expect("no file is needed");
    assert_eq!((facts.shape, facts.samples), (vec![1, 2, 4], 2));
    assert!(refusal(path, IDX, &[]).contains("idx3-ubyte"));
    let write = |name: &str, bytes: &[u8]| fs::write(path.join(name), bytes).unwrap();
    let header = [0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, 4];
    write("images-idx3-ubyte", &[&header[..], &[7; 16]].concat());
    write("labels-idx1-ubyte", &[0, 0, 8, 1, 0, 0, 0, 2, 0, 2]);
    assert_eq!(config.data.load(0).unwrap().len(), 2);
    for change in ["shape=[1, 4, 2]", "classes=4", "samples=60000"] {
        let other = refusal(path, IDX, &[&format!("data.expect.{change}")]);
        let got = "got 2 of shape [1, 2, 4] in 3 classes";
        assert!(
            other.contains("data.expect") && other.contains(got),
            "{other}"
        );
    }
}

#[test]
fn a_network_that_does_not_fit_the_data_is_refused() {
    let refused = |sections, key: &str| {
        let error = parse(Path::new("x"), sections, &[key]).unwrap_err();
        error.lines().next().unwrap_or_default().to_owned()
    };
    let untold = refused(CIFAR, "network.augment=0");
    assert!(untold.contains("network.augment: expected 6"), "{untold}");
    let text = CIFAR.replace(", augment_probability = 0.12", "");
    let told = parse(Path::new("x"), &text, &[]).unwrap_err();
    assert!(told.contains("network.augment: expected 0"), "{told}");
    let points = refused(
        LATENTS,
        "network={ kind = \"mlp\", width = 8, depth = 1, embedding = \"th\" }",
    );
    assert!(points.contains("network.kind"), "{points}");
    let unlabelled = refused(LATENTS, "data.classes=0");
    assert!(unlabelled.contains("data.classes"), "{unlabelled}");
    let likely = refused(CIFAR, "data.augment_probability=1.5");
    assert!(likely.contains("data.augment_probability"), "{likely}");
}

#[test]
fn latents_are_trained_on_and_drawn() {
    let folder = tempfile::tempdir().unwrap();
    write_latents(folder.path());
    let config = parse(folder.path(), LATENTS, &[]).unwrap();
    let root = folder.path().join("run");
    let stop = AtomicBool::new(false);
    let outcome = train(config, &root, Device::Cpu, &stop, &mut Silent).unwrap();
    assert_eq!(outcome, Outcome::Finished);
    assert!(root.join("samples/step-000002.png").is_file());
}

/// Six pictures of 5×6 pixels in two classes.
fn write_pictures(folder: &Path) {
    for index in 0..6_u8 {
        let class = folder.join(["a", "b"][usize::from(index % 2)]);
        fs::create_dir_all(&class).unwrap();
        let picture = Picture::new([5, 6, 3], vec![40 * index; 90]).unwrap();
        picture
            .write_png(&class.join(format!("{index}.png")))
            .unwrap();
    }
}

#[test]
fn a_folder_of_pictures_is_checked_and_trained_on() {
    let folder = tempfile::tempdir().unwrap();
    let pictures = folder.path().join("pictures");
    assert!(refusal(&pictures, PICTURES, &[]).contains("pictures"));
    write_pictures(&pictures);
    let config = parse(&pictures, PICTURES, &[]).unwrap();
    let facts = config.data.facts(config.seed).unwrap();
    assert_eq!(
        (facts.samples, facts.classes, &facts.shape[..]),
        (6, 2, &[3, 4, 4][..])
    );
    let grey = parse(&pictures, PICTURES, &["data.channels=1"]).unwrap();
    assert_eq!(grey.data.facts(0).unwrap().shape, [1, 4, 4]);
    let two = parse(&pictures, PICTURES, &["data.channels=2"]).unwrap_err();
    assert!(
        two.contains("data.channels: expected 1 or 3, got 2"),
        "{two}"
    );
    // Below `a` there are no folders, so no classes.
    let flat = refusal(&pictures.join("a"), PICTURES, &[]);
    assert!(flat.contains("classes of the pictures"), "{flat}");
    for kind in ["zip", "tar"] {
        let other = refusal(
            &pictures.join("a/0.png"),
            PICTURES,
            &[&format!("data.kind={kind}")],
        );
        assert!(other.contains("0.png"), "{other}");
    }
    let root = folder.path().join("run");
    let stop = AtomicBool::new(false);
    let outcome = train(config, &root, Device::Cpu, &stop, &mut Silent).unwrap();
    assert_eq!(outcome, Outcome::Finished);
}

#[test]
fn the_number_of_workers_changes_no_batch_and_any_step_may_come_first() {
    let folder = tempfile::tempdir().unwrap();
    write_pictures(folder.path());
    let batches = |workers: usize, steps: &[u64]| {
        let workers = format!("training.num_workers={workers}");
        let config = parse(folder.path(), PICTURES, &[&workers]).unwrap();
        let data = config.data.load(config.seed).unwrap();
        let mut trainer = Trainer::new(config, data, Device::Cpu).unwrap();
        let batch = |&step: &u64| {
            let batch = trainer.batch(step).unwrap();
            let values = batch.data.flatten(0, -1);
            (Vec::<f32>::try_from(values).unwrap(), batch.labels)
        };
        steps.iter().map(batch).collect::<Vec<_>>()
    };
    let all = batches(1, &[0, 1, 2, 3, 4]);
    assert_ne!(all[0], all[1]);
    assert_eq!(batches(3, &[0, 1, 2, 3, 4]), all);
    // As a run does that goes on from a checkpoint.
    assert_eq!(batches(2, &[3, 4]), all[3..]);
    assert_eq!(batches(2, &[2, 0]), [all[2].clone(), all[0].clone()]);
}

#[test]
fn augmented_pictures_are_trained_on_step_by_step_the_same() {
    let folder = tempfile::tempdir().unwrap();
    for part in 1..=5 {
        // A file without blocks: black aeroplanes.
        let name = format!("data_batch_{part}.bin");
        let file = File::create(folder.path().join(name)).unwrap();
        file.set_len(10_000 * 3073).unwrap();
    }
    let losses = || {
        let config = parse(folder.path(), CIFAR, &[]).unwrap();
        let data = config.data.load(config.seed).unwrap();
        let mut trainer = Trainer::new(config, data, Device::Cpu).unwrap();
        [(); 2].map(|()| trainer.step().unwrap().v_loss)
    };
    let first = losses();
    assert_eq!(first, losses());
    assert!(first.iter().all(|loss| loss.is_finite()));
}
