//! `meanflow invert`, `edit`, `inpaint` and `likelihood` of given pictures.

use std::fs;

use meanflow_data::decode::Channels;
use meanflow_data::npy::{self, NpyData};
use meanflow_data::npz::Npz;
use meanflow_data::{ImageArchive, Picture, Pictures, digits};
use serde_json::Value;

use crate::pictures::write_pictures;
use crate::support::{RECIPE, Scene};

const DIGITS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../configs/digits.toml");

/// A scene with a run of a few steps on the digits.
fn scene() -> Scene {
    let scene = Scene::new();
    let mut train = vec!["train", DIGITS, "--out", "run"];
    for change in ["network.depth=1", "network.width=32", "training.steps=4"] {
        train.extend(["--set", change]);
    }
    scene.succeeds(&train);
    scene
}

/// What a command says, as it would be typed.
fn says(scene: &Scene, command: &str) -> String {
    scene.succeeds(&command.split(' ').collect::<Vec<_>>())
}

/// The report of a command.
fn report(scene: &Scene, command: &str) -> Value {
    serde_json::from_str(&says(scene, &format!("{command} --json"))).unwrap()
}

/// What a command that fails with this code says.
fn fails(scene: &Scene, code: i32, command: &str) -> String {
    scene.fails(code, &command.split(' ').collect::<Vec<_>>())
}

/// The bytes of the pictures in an archive, and their classes.
fn drawn(scene: &Scene, name: &str) -> (Vec<u8>, Vec<i64>) {
    let mut archive = Npz::open(&scene.path(name), 1 << 20).unwrap();
    let NpyData::U8(bytes) = archive.read("arr_0").unwrap().data else {
        panic!("expected bytes");
    };
    (bytes, archive.read("arr_1").unwrap().labels().unwrap())
}

/// The bytes of digits.
fn given(indices: &[usize]) -> Vec<u8> {
    let data = digits::load().unwrap();
    data.pictures(indices).unwrap().pixels().to_vec()
}

/// Writes a digit as a picture file.
fn write_digit(scene: &Scene, index: usize, name: &str) {
    let pictures: Pictures = digits::load().unwrap().pictures(&[index]).unwrap();
    let picture = pictures.iter().next().unwrap();
    picture.write_png(&scene.path(name)).unwrap();
}

/// Writes a picture of one colour or grey.
fn write_plain(scene: &Scene, shape: [usize; 3], name: &str) {
    let pixels = vec![0; shape.iter().product()];
    let picture = Picture::new(shape, pixels).unwrap();
    picture.write_png(&scene.path(name)).unwrap();
}

/// The size of a picture file.
fn size(scene: &Scene, name: &str) -> [usize; 3] {
    let picture = ImageArchive::open(&scene.path(name)).unwrap();
    picture.decode(0, Channels::Grey).unwrap().shape()
}

#[test]
fn an_edit_of_no_strength_is_the_picture_and_one_of_all_a_sample() {
    let scene = scene();
    let edit = |more: &str| {
        let command = "edit run digits --indices 4,0-1 --seeds 7,9 --out a.npz";
        says(&scene, &format!("{command} {more}"));
        drawn(&scene, "a.npz")
    };
    let (bytes, labels) = edit("--strength 0");
    assert_eq!(bytes, given(&[4, 4, 0, 0, 1, 1]));
    // The digits begin with 0, 1, 2, …: every picture keeps its class.
    assert_eq!(labels, [4, 4, 0, 0, 1, 1]);
    let (all, labels) = edit("--strength 1 --class 3");
    assert_eq!(labels, [3; 6]);
    says(&scene, "sample run --seeds 7,9 --class 3 --out s.npz");
    let (samples, _) = drawn(&scene, "s.npz");
    assert_eq!(all, [&samples[..], &samples, &samples].concat());
    // Seed by seed, as for samples; or without a class.
    let (half, _) = edit("--strength 0.5");
    assert_eq!(edit("--strength 0.5 --class 1,2").1, [2; 6]);
    let balanced = edit("--strength 0.5 --class balanced").1;
    assert_eq!(balanced, [7, 9, 7, 9, 7, 9]);
    assert_eq!(edit("--strength 0.5 --class none").1, [10; 6]);
    assert_ne!(edit("--strength 0.5 --method rotate").0, half);
}

#[test]
fn variations_of_a_picture_file_go_to_a_sheet_and_a_folder() {
    let scene = scene();
    write_digit(&scene, 3, "three.png");
    let edit = "edit run three.png --strength 0.3";
    let report = report(&scene, &format!("{edit} --seeds 0-7 --out sheet.png"));
    assert_eq!(
        (&report["samples"], &report["nfe"]["most"]),
        (&8.into(), &1.into())
    );
    // The picture and its variations, three a row, every pixel four wide, lines between.
    assert_eq!(size(&scene, "sheet.png"), [3 * 33 + 1, 3 * 33 + 1, 1]);
    let folder = format!("{edit} --seeds 5,8 --class 6 --out folder");
    says(&scene, &folder);
    let index = fs::read_to_string(scene.path("folder/samples.csv")).unwrap();
    let lines = "picture,seed,file,class,class_name\n0,5,000000/000000.png,6,6\n0,8,000000/000001.png,6,6\n";
    assert_eq!(index, lines);
    assert!(scene.path("folder/000000/000001.png").is_file());
    assert!(fails(&scene, 2, &folder).contains("--force"));
}

#[test]
fn what_a_mask_leaves_is_kept_to_the_byte() {
    let scene = scene();
    // White on the right half.
    let is_known = |place: usize| place % 8 < 4;
    let pixels = (0..64).map(|place| if is_known(place) { 0 } else { 255 });
    let mask = Picture::new([8, 8, 1], pixels.collect()).unwrap();
    mask.write_png(&scene.path("mask.png")).unwrap();
    let inpaint = |more: &str| {
        let command = "inpaint run digits --indices 2,5 --seeds 0-1 --steps 2";
        report(&scene, &format!("{command} {more}"))
    };
    let report = inpaint("--mask mask.png --out a.npz");
    assert_eq!(
        (&report["samples"], &report["nfe"]["mean"]),
        (&4.into(), &2.0.into())
    );
    let (bytes, labels) = drawn(&scene, "a.npz");
    assert_eq!(labels, [2, 2, 5, 5]);
    let known = |bytes: Vec<u8>| -> Vec<u8> {
        let pixels = bytes.into_iter().enumerate();
        let known = pixels.filter(|(place, _)| is_known(*place));
        known.map(|(_, byte)| byte).collect()
    };
    assert_ne!(bytes, given(&[2, 2, 5, 5]));
    assert_eq!(known(bytes.clone()), known(given(&[2, 2, 5, 5])));
    // The same part as a rectangle, or as two.
    inpaint("--box 4,0,4,8 --out b.npz");
    inpaint("--box 4,0,4,4 --box 4,4,4,4 --out c.npz");
    assert_eq!(drawn(&scene, "b.npz").0, bytes);
    assert_eq!(drawn(&scene, "c.npz").0, bytes);
    // A row a picture: as it is, what is known of it, two completions.
    inpaint("--mask mask.png --out sheet.png");
    assert_eq!(size(&scene, "sheet.png"), [2 * 33 + 1, 4 * 33 + 1, 1]);
}

#[test]
fn noise_is_found_and_what_it_misses_is_said() {
    let scene = scene();
    let invert = "invert run digits --indices";
    let found = report(&scene, &format!("{invert} 0-4 --steps 2 --out noise.npz"));
    let residuals: Vec<f64> = serde_json::from_value(found["residuals"].clone()).unwrap();
    let mut archive = Npz::open(&scene.path("noise.npz"), 1 << 20).unwrap();
    let noise = archive.read("arr_0").unwrap();
    assert_eq!(noise.shape, [5, 1, 8, 8]);
    let NpyData::F32(noise) = noise.data else {
        panic!("expected f32");
    };
    let labels = archive.read("arr_1").unwrap().data;
    assert_eq!(labels, NpyData::I64(vec![0, 1, 2, 3, 4]));
    let stored = archive.read("residuals").unwrap().data;
    assert_eq!(stored, NpyData::F64(residuals.clone()));
    // A network of four steps hardly moves anything: its jumps contract, and two residuals add up at most.
    assert_eq!(found["converged"], 5);
    assert!(residuals.iter().all(|size| *size <= 2e-3), "{residuals:?}");
    let most = found["round_trip"]["most"].as_f64().unwrap();
    assert!(most < 5e-3, "{most}");
    // The noise of a picture does not depend on the pictures beside it.
    says(&scene, &format!("{invert} 3 --steps 2 --out one.npy"));
    let one = npy::read(&scene.path("one.npy"), 1 << 20).unwrap();
    assert_eq!(one.data, NpyData::F32(noise[3 * 64..4 * 64].to_vec()));
    let flow = report(&scene, &format!("{invert} 0-4 --ode rk4:8 --out flow.npy"));
    assert!(flow["residuals"].is_null());
    // An order of 4 over 8 steps of a gentle field.
    assert!(flow["round_trip"]["most"].as_f64().unwrap() < 1e-3);
    let said = says(&scene, &format!("{invert} 0-4 --out a.npy"));
    for part in ["noise of 5 pictures", "the way back misses them by"] {
        assert!(said.contains(part), "{said}");
    }
}

#[test]
fn likelihoods_are_in_nats_and_bits_and_say_how() {
    let scene = scene();
    let likelihood = |more: &str| {
        let command = "likelihood run digits --ode heun:2 --indices";
        report(&scene, &format!("{command} {more}"))
    };
    let exact = likelihood("0-4");
    assert_eq!(
        (&exact["trace"], &exact["nfe"]),
        (&"exact".into(), &4.0.into())
    );
    let nats: Vec<f64> = serde_json::from_value(exact["each"]["nats"].clone()).unwrap();
    let mean = nats.iter().sum::<f64>() / 5.0;
    let number = |key: &str| exact[key]["mean"].as_f64().unwrap();
    // Sums of five numbers in the same order; the last places of f64.
    assert!((number("nats") - mean).abs() < 1e-9);
    // (M27): a byte has the width 1/127.5.
    let bits = -mean / 64.0 / std::f64::consts::LN_2 + 127.5_f64.log2();
    assert!((number("bits_per_dimension") - bits).abs() < 1e-9);
    // Of a picture alone as beside others.
    let alone = likelihood("3");
    assert_eq!(alone["each"]["nats"][0], nats[3]);
    assert!(alone["nats"]["standard_error"].is_null());
    assert_ne!(likelihood("3 --seed 1")["nats"], alone["nats"]);
    let signs = likelihood("0-4 --trace hutchinson:32");
    for (place, exact) in nats.iter().enumerate() {
        let number = |key: &str| signs["each"][key][place].as_f64().unwrap();
        // Five normal numbers, each below four standard errors.
        assert!((number("nats") - exact).abs() < 4.0 * number("standard_error"));
    }
    let said = says(&scene, "likelihood run digits --indices 0-1 --ode euler:2");
    for part in [
        "2 pictures",
        "bits a dimension",
        "exact trace of 64 dimensions",
    ] {
        assert!(said.contains(part), "{said}");
    }
}

#[test]
fn points_have_nats_and_no_bits() {
    let scene = Scene::new();
    scene.trained("points");
    scene.file("points.toml", RECIPE);
    let found = report(
        &scene,
        "likelihood points points.toml --indices 0-9 --ode euler:4",
    );
    assert!(found["bits_per_dimension"].is_null() && found["nats"]["mean"].is_number());
    assert_eq!(found["dequantised"], false);
}

#[test]
fn pictures_that_do_not_fit_are_refused_with_a_way_out() {
    let scene = scene();
    write_pictures(&scene);
    write_digit(&scene, 3, "three.png");
    write_plain(&scene, [16, 16, 3], "large.png");
    let edit = |code: i32, more: &str| {
        let command = "edit run --seeds 0 --out a.npz --strength 0.5";
        fails(&scene, code, &format!("{command} {more}"))
    };
    let error = edit(4, "large.png");
    for word in [
        "large.png",
        "[1, 8, 8]",
        "[1, 16, 16]",
        "--resize",
        "data show",
    ] {
        assert!(error.contains(word), "{word}: {error}");
    }
    assert!(edit(2, "pictures").contains("9×12"));
    assert!(edit(4, "nothing.png").contains("nothing.png"));
    assert!(edit(2, "digits --resize").contains("one shape already"));
    assert!(edit(2, "digits --indices 1797").contains("0 to 1796"));
    assert!(edit(2, "three.png --class data").contains("no classes"));
    assert!(edit(2, "three.png --class 11").contains("0 to 9"));
    // Cats and dogs are no digits, unless another class is asked for.
    assert!(edit(2, "pictures --resize").contains("cat"));
    says(
        &scene,
        "edit run pictures --resize --class none --strength 0.5 --seeds 0 --out a.npz",
    );
    assert_eq!(drawn(&scene, "a.npz").1, [10; 6]);
    let strength = "edit run digits --seeds 0 --out b.npz --strength 1.5";
    assert!(fails(&scene, 2, strength).contains("strength"));
    assert!(!scene.path("b.npz").exists());
}

#[test]
fn masks_and_outputs_that_do_not_fit_are_refused() {
    let scene = scene();
    write_digit(&scene, 3, "three.png");
    write_plain(&scene, [16, 16, 3], "large.png");
    write_plain(&scene, [8, 8, 1], "black.png");
    let inpaint = |code: i32, part: &str| {
        let command = "inpaint run three.png --seeds 0 --out b.npz";
        fails(&scene, code, format!("{command} {part}").trim_end())
    };
    let error = inpaint(4, "--mask large.png");
    for word in ["large.png", "8×8", "16×16"] {
        assert!(error.contains(word), "{word}: {error}");
    }
    assert!(inpaint(4, "--mask black.png").contains("white"));
    assert!(inpaint(2, "--box 4,0,5,8").contains("8×8"));
    assert!(inpaint(2, "--box 4,0,5").contains("0,4,8,4"));
    inpaint(2, "");
    inpaint(2, "--box 0,0,1,1 --mask black.png");
    assert!(!scene.path("b.npz").exists());
    let invert = |more: &str| fails(&scene, 2, &format!("invert run three.png {more}"));
    assert!(invert("--out a.png").contains("NAME.npz or NAME.npy"));
    assert!(invert("--out none/a.npy").contains("no folder"));
    assert!(invert("--out a.npy --tolerance 0").contains("above 0"));
}
