//! `meanflow data verify`, `stats` and `pack`, and pictures encoded by a VAE.

use std::fs;

use meanflow_data::decode::Channels;
use meanflow_data::latents::Latents;
use meanflow_data::{Collection, Picture, Source};
use serde_json::Value;

use crate::latents::vae;
use crate::support::Scene;

/// Six pictures in two classes, of 9×12 and 16×10 pixels.
fn write_pictures(scene: &Scene) {
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
    let folder = Collection::open(&scene.path("pictures")).unwrap();
    let packed = Collection::open(&scene.path("all.zip")).unwrap();
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
    let small = Collection::open(&scene.path("small.zip")).unwrap();
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
