//! `meanflow data verify`, `stats` and `pack`, and pictures encoded by a VAE.

use std::fs;

use meanflow_data::decode::Channels;
use meanflow_data::latents::Latents;
use meanflow_data::npy::{self, NpyData};
use meanflow_data::{Dataset, ImageArchive, Picture};
use serde_json::Value;

use crate::latents::vae;
use crate::support::Scene;

/// Six pictures in two classes, of 9×12 and 16×10 pixels.
pub(crate) fn write_pictures(scene: &Scene) {
    for index in 0..6_usize {
        let class = scene
            .path("pictures")
            .join(["cat", "dog"][usize::from(index > 3)]);
        fs::create_dir_all(&class).unwrap();
        let [height, width] = [[9, 12], [16, 10]][index % 2];
        let pixels = (0..height * width * 3)
            .map(|place| (place * (index + 3)) as u8)
            .collect();
        let picture = Picture::new([height, width, 3], pixels).unwrap();
        picture
            .write_png(&class.join(format!("{index}.png")))
            .unwrap();
    }
    fs::write(scene.path("pictures/cat/notes.txt"), "x").unwrap();
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[test]
fn pictures_are_counted_and_damaged_ones_listed() {
    let scene = Scene::new();
    write_pictures(&scene);
    let stats = json(&scene.succeeds(&["data", "stats", "pictures", "--json"]));
    assert_eq!(
        (&stats["pictures"], &stats["ignored"]),
        (&6.into(), &1.into())
    );
    let classes = serde_json::json!([
        {"label": 0, "name": "cat", "pictures": 4}, {"label": 1, "name": "dog", "pictures": 2}
    ]);
    assert_eq!(stats["classes"], classes);
    let sizes = serde_json::json!([
        {"height": 9, "width": 12, "pictures": 3}, {"height": 16, "width": 10, "pictures": 3}
    ]);
    assert_eq!(stats["sizes"], sizes);
    let text = scene.succeeds(&["data", "verify", "pictures"]);
    assert!(text.contains("damaged     0"), "{text}");

    // Cut short behind its header: only decoding shows it.
    let path = scene.path("pictures/dog/5.png");
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() - 20]).unwrap();
    scene.succeeds(&["data", "stats", "pictures"]);
    let output = scene
        .command(&["data", "verify", "pictures", "--json"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(4));
    let report = json(&String::from_utf8(output.stdout).unwrap());
    let damaged = report["damaged"].as_array().unwrap();
    assert_eq!(damaged.len(), 1);
    assert!(damaged[0]["file"].as_str().unwrap().ends_with("5.png"));
    let error = scene.fails(4, &["data", "pack", "pictures", "--out", "all.zip"]);
    assert!(error.contains("5.png") && !scene.path("all.zip").exists());
    scene.fails(4, &["data", "stats", "nowhere"]);
}

#[test]
fn a_packed_copy_holds_the_same_pictures_in_the_same_order() {
    let scene = Scene::new();
    write_pictures(&scene);
    let out = scene.succeeds(&["data", "pack", "pictures", "--out", "all.zip", "--json"]);
    assert_eq!(json(&out)["classes"], 2);
    let folder = ImageArchive::open(&scene.path("pictures")).unwrap();
    let packed = ImageArchive::open(&scene.path("all.zip")).unwrap();
    assert_eq!(packed.name(3), "00000/img00000003.png");
    assert_eq!(packed.labels(), folder.labels());
    for index in 0..6 {
        assert_eq!(packed.read(index).unwrap(), folder.read(index).unwrap());
    }
    scene.fails(2, &["data", "pack", "pictures", "--out", "all.zip"]);
    let small = ["data", "pack", "all.zip", "--size", "8", "--colors", "grey"];
    scene.succeeds(&[&small[..], &["--out", "small.zip"]].concat());
    scene.succeeds(&[&small[..], &["--out", "again.zip"]].concat());
    let bytes = |name: &str| fs::read(scene.path(name)).unwrap();
    assert_eq!(bytes("small.zip"), bytes("again.zip"));
    let small = ImageArchive::open(&scene.path("small.zip")).unwrap();
    for index in 0..6 {
        let whole = folder.decode(index, Channels::Grey).unwrap();
        let cut = meanflow_data::resize::center_crop(&whole, 8).unwrap();
        assert_eq!(small.decode(index, Channels::Grey).unwrap(), cut);
    }
}

#[test]
fn pictures_are_encoded_at_one_size() {
    let scene = Scene::new();
    write_pictures(&scene);
    vae(&scene);
    let encode = ["data", "encode", "pictures", "--vae", "vae", "--out"];
    let error = scene.fails(4, &[&encode[..], &["without"]].concat());
    assert!(error.contains("--size"), "{error}");
    let text = scene.succeeds(&[&encode[..], &["latents", "--size", "8"]].concat());
    assert!(text.contains("6 latents"), "{text}");
    let latents = Latents::open(&scene.path("latents"), 2, false).unwrap();
    assert_eq!((latents.len(), latents.shape()), (6, &[3, 4, 4][..]));
    assert_eq!(latents.labels(), [0, 0, 0, 0, 1, 1]);
}

#[test]
fn a_folder_a_zip_and_a_tar_have_the_same_latents() {
    let scene = Scene::new();
    vae(&scene);
    // Made by Pillow, zipfile and webdataset.
    let fixtures = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../meanflow-data/tests/fixtures"
    );
    let encoded = |data: &str, out: &str| {
        let encode = ["data", "encode", data, "--size", "8", "--vae", "vae"];
        scene.succeeds(&[&encode[..], &["--out", out]].concat());
        fs::read(scene.path(out).join("moments.npy")).unwrap()
    };
    for name in ["stored.zip", "shard.tar"] {
        let archive = format!("{fixtures}/{name}");
        let collection = ImageArchive::open(archive.as_ref()).unwrap();
        let folder = format!("unpacked {name}");
        fs::create_dir(scene.path(&folder)).unwrap();
        for index in 0..collection.len() {
            let end = collection.name(index).rsplit('.').next().unwrap();
            let file = scene.path(&folder).join(format!("{index}.{end}"));
            fs::write(file, collection.read(index).unwrap()).unwrap();
        }
        let whole = encoded(&archive, name);
        assert!(whole == encoded(&folder, &format!("of {name}")), "{name}");
        let labels = npy::read(&scene.path(name).join("labels.npy"), 1 << 20).unwrap();
        assert_eq!(labels.data, NpyData::I64(collection.labels().to_vec()));
    }
}

#[test]
fn other_data_are_counted_and_what_is_not_finite_is_refused() {
    let scene = Scene::new();
    vae(&scene);
    let stats = json(&scene.succeeds(&["data", "stats", "digits", "--json"]));
    assert_eq!(
        (&stats["samples"], &stats["shape"]),
        (&1797.into(), &serde_json::json!([1, 8, 8]))
    );
    assert_eq!(stats["classes"].as_array().unwrap().len(), 10);
    let digits = meanflow_data::digits::load().unwrap();
    let all: Vec<usize> = (0..digits.len()).collect();
    let values = digits.examples(&all).values;
    let mean = values.iter().map(|&value| f64::from(value)).sum::<f64>() / values.len() as f64;
    let said = stats["channels"][0]["mean"].as_f64().unwrap();
    // Two orders of adding a hundred thousand numbers in f64.
    assert!((said - mean).abs() < 1e-10, "{said} {mean}");
    assert_eq!(stats["channels"][0]["least"], -1.0);
    let recipe = scene.succeeds(&["data", "verify", &scene.recipe()]);
    assert!(recipe.contains("500 samples, shape [2]"), "{recipe}");
    let refused = scene.fails(2, &["data", "pack", "digits", "--out", "all.zip"]);
    assert!(refused.contains("expected PNG and JPEG files"), "{refused}");

    scene.succeeds(&[
        "data", "encode", "digits", "--vae", "vae", "--out", "latents",
    ]);
    let text = scene.succeeds(&["data", "verify", "latents"]);
    assert!(
        text.contains("1797 latents of vae") && text.contains("deviation"),
        "{text}"
    );
    let path = scene.path("latents/moments.npy");
    let mut bytes = fs::read(&path).unwrap();
    // The last number is of the last sample.
    let end = bytes.len();
    bytes[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    fs::write(&path, &bytes).unwrap();
    let nan = scene.fails(4, &["data", "verify", "latents"]);
    assert!(
        nan.contains("moments.npy") && nan.contains("got NaN"),
        "{nan}"
    );
    fs::write(&path, &bytes[..end - 4]).unwrap();
    let short = scene.fails(4, &["data", "verify", "latents"]);
    assert!(short.contains("moments.npy"), "{short}");
}

#[test]
fn scales_that_no_latent_bears_are_refused() {
    let scene = Scene::new();
    vae(&scene);
    scene.succeeds(&[
        "data", "encode", "digits", "--vae", "vae", "--out", "latents",
    ]);
    let facts = scene.path("latents/latents.toml");
    let said = fs::read_to_string(&facts).unwrap();
    let line = said.lines().find(|line| line.starts_with("scale"));
    fs::write(&facts, said.replace(line.unwrap(), "scale = 1e300")).unwrap();
    let error = scene.fails(4, &["data", "verify", "latents"]);
    assert!(
        error.contains("scale at byte") && error.contains("got 1e300"),
        "{error}"
    );
}

#[test]
fn files_of_mnist_are_found_in_their_folder() {
    let scene = Scene::new();
    let idx = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../meanflow-data/tests/fixtures/idx"
    );
    let stats = json(&scene.succeeds(&["data", "stats", idx, "--json"]));
    let classes = stats["classes"].as_array().unwrap();
    let samples: u64 = classes
        .iter()
        .map(|class| class["samples"].as_u64().unwrap())
        .sum();
    assert_eq!(stats["samples"], samples);
    fs::create_dir(scene.path("cut")).unwrap();
    let file = |name, bytes: &[u8]| fs::write(scene.path("cut").join(name), bytes).unwrap();
    file("train-images-idx3-ubyte", &[0, 0, 8, 3, 0, 0, 0, 1]);
    file("train-labels-idx1-ubyte", &[0, 0, 8, 1, 0, 0, 0, 1, 7]);
    let error = scene.fails(4, &["data", "verify", "cut"]);
    assert!(error.contains("train-images-idx3-ubyte"), "{error}");
}
