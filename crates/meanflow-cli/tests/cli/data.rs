//! Data as a user has them: seen, named and known again from the folder to the samples.

use std::fs;

use meanflow_data::{Picture, write_bytes};
use meanflow_torch::weights;
use meanflow_train::class_names_of;
use serde_json::Value;

use crate::support::{Scene, words};

/// A recipe for pictures of 4×4 pixels that takes a fraction of a second.
fn recipe(scene: &Scene, data: &str) -> String {
    let text = format!(
        r#"
seed = 3
data = {{ {data} }}
network = {{ kind = "dit", patch = 2, width = 16, depth = 1, heads = 2, mlp_ratio = 2.0, embedding = "th" }}
path = {{ kind = "linear" }}
optimizer = {{ kind = "adamw", beta1 = 0.9, beta2 = 0.95, epsilon = 1e-8, weight_decay = 0.0 }}
lr = {{ schedule = "constant", peak = 1e-3, warmup_steps = 0 }}
loss = {{ norm_p = 1.0, norm_eps = 0.01, reduction = "sum" }}
class_dropout = {{ prob = 0.1, rows = "independent" }}
ema = {{ decays = [0.5] }}
training = {{ batch_size = 4, steps = 2, checkpoint_every = 1, sample_every = 2, log_every = 1 }}
sampling = {{ grid = [1, 3], nfe = [1] }}

[times]
t = {{ kind = "uniform" }}
mean_flow_ratio = {{ count = 0.5 }}
order = "after-ordering"
"#
    );
    scene.file("pictures.toml", &text)
}

const DATA: &str = r#"kind = "folder", path = "pictures", conditional = true, size = 4, channels = 3, flip = false"#;

/// Three classes of two pictures.
fn write_pictures(scene: &Scene) {
    for (place, class) in ["cat", "dog", "wolf"].iter().enumerate() {
        let folder = scene.path("pictures").join(class);
        fs::create_dir_all(&folder).unwrap();
        for number in 0..2 {
            let pixels = vec![(60 * place + 20 * number) as u8; 48];
            let picture = Picture::new([4, 4, 3], pixels).unwrap();
            picture
                .write_png(&folder.join(format!("{number}.png")))
                .unwrap();
        }
    }
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

/// A run on the pictures, which the recipe names by an absolute path; that path.
fn trained(scene: &Scene) -> String {
    write_pictures(scene);
    let absolute = scene.path("pictures").display().to_string();
    let data = DATA.replace("\"pictures\"", &format!("{absolute:?}"));
    let recipe = recipe(scene, &data);
    scene.succeeds(&["train", &recipe, "--out", "run"]);
    absolute
}

#[test]
fn names_of_classes_travel_from_the_folder_to_the_weights() {
    let scene = Scene::new();
    let absolute = trained(&scene);
    let names = ["cat", "dog", "wolf"];
    let record = json(&fs::read_to_string(scene.path("run/data.json")).unwrap());
    assert_eq!(record["class_names"], serde_json::json!(names));
    assert!(scene.path("run/data.png").is_file());
    let header = weights::header(&scene.path("run/model.safetensors")).unwrap();
    assert_eq!(class_names_of(&header.metadata).unwrap(), names);
    // A person's folders stay at home.
    assert!(!format!("{:?}", header.metadata).contains(&absolute));
    let info = scene.succeeds(&["info", "run"]);
    assert!(info.contains("3: 0 cat, 1 dog, 2 wolf"), "{info}");
}

#[test]
fn samples_are_asked_for_by_the_names_of_their_classes() {
    let scene = Scene::new();
    trained(&scene);
    let sample = |class: &str, out: &str| {
        let seeds = ["sample", "run", "--seeds", "0-3", "--class", class];
        scene.succeeds(&[&seeds[..], &["--out", out]].concat());
        fs::read_to_string(scene.path(out).join("samples.csv")).unwrap()
    };
    let index = sample("wolf,cat", "out");
    let expected = "seed,file,class,class_name\n0,000000/000000.png,2,wolf\n1,000000/000001.png,0,cat\n\
                    2,000000/000002.png,2,wolf\n3,000000/000003.png,0,cat\n";
    assert_eq!(index, expected);
    assert_eq!(sample("2,0", "numbers"), expected);
    // The run directory still says where the data lie, in which every class is as frequent as the others.
    let of_data = sample("data", "data");
    for class in ["0,cat", "1,dog", "2,wolf"] {
        assert!(of_data.contains(class), "{of_data}");
    }
    let sample = ["sample", "run", "--seeds", "0", "--out", "a.png", "--class"];
    let error = scene.fails(2, &[&sample[..], &["wulf"]].concat());
    assert!(error.contains("names like it: wolf"), "{error}");
    scene.fails(2, &[&sample[..], &["3"]].concat());
    let between = ["interpolate", "run", "--seeds", "1,2", "--count", "2"];
    let between = [&between[..], &["--out", "b.png", "--class"]].concat();
    scene.succeeds(&[&between[..], &["dog"]].concat());
    scene.fails(2, &[&between[..], &["dog,cat"]].concat());
}

/// The hash is of names, labels and contents: changed data are refused, moved data are not.
#[test]
fn a_run_knows_its_data_again_wherever_they_lie() {
    let scene = Scene::new();
    write_pictures(&scene);
    let recipe = recipe(&scene, DATA);
    let train = ["train", &recipe, "--out", "run"];
    let fails = |more: &[&str]| scene.fails(4, &[&train[..], more].concat());
    let succeeds = |more: &[&str]| scene.succeeds(&[&train[..], more].concat());
    let longer = ["--set", "training.steps=4"];
    succeeds(&[]);
    let picture = scene.path("pictures/dog/1.png");
    let kept = fs::read(&picture).unwrap();
    let other = Picture::new([4, 4, 3], vec![200; 48])
        .unwrap()
        .to_png()
        .unwrap();
    write_bytes(&picture, &other).unwrap();
    let error = fails(&longer);
    assert!(error.contains("begun with other data"), "{error}");
    write_bytes(&picture, &kept).unwrap();
    // A label changes as a picture goes into another folder.
    fs::rename(&picture, scene.path("pictures/cat/9.png")).unwrap();
    fails(&longer);
    fs::rename(scene.path("pictures/cat/9.png"), &picture).unwrap();
    fs::rename(scene.path("pictures"), scene.path("moved")).unwrap();
    fails(&longer);
    succeeds(&[&longer[..], &["--set", "data.path=moved"]].concat());
}

#[test]
fn validate_looks_at_data_where_they_are_and_says_where_not() {
    let scene = Scene::new();
    write_pictures(&scene);
    let name = recipe(&scene, DATA);
    let text = scene.succeeds(&["validate", &name]);
    assert!(text.contains("looked at: 6 pictures of 1 sizes"), "{text}");
    let latents = r#"data={kind="latents",path="PATH",conditional=true,flip=false,shape=[1,2,2],classes=2,samples=3}"#;
    let validate = |path: &str| {
        let data = latents.replace("PATH", path);
        ["validate", &name, "--set", &data, "--json"].map(str::to_owned)
    };
    let arguments = validate("nowhere");
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let said = json(&scene.succeeds(&arguments));
    assert_eq!(said["data"], "not looked at (nowhere does not exist)");
    assert_eq!((&said["samples"], &said["classes"]), (&3.into(), &2.into()));
    let arguments = validate("pictures");
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    scene.fails(4, &arguments);
    // Whatever is damaged is seen from the headers, or the first batch.
    fs::write(scene.path("pictures/dog/1.png"), "GIF89a").unwrap();
    let error = scene.fails(4, &["validate", &name]);
    assert!(error.contains("1.png") && error.contains("GIF"), "{error}");
}

#[test]
fn what_a_network_would_not_see_is_refused_or_said() {
    let scene = Scene::new();
    write_pictures(&scene);
    let transparent = image_with_alpha();
    write_bytes(&scene.path("pictures/cat/0.png"), &transparent).unwrap();
    let name = recipe(&scene, DATA);
    for command in ["train", "validate"] {
        let error = scene.fails(4, &[command, &name]);
        assert!(
            error.contains("1 of 6 pictures") && error.contains("data.background"),
            "{error}"
        );
    }
    let background = ["--set", "data.background=white"];
    let text = scene.succeeds(&[&["validate", &name][..], &background].concat());
    assert!(
        text.contains("1 pictures that may be transparent") && text.contains("laid over white"),
        "{text}"
    );
    scene.succeeds(&[&["train", &name, "--out", "run"][..], &background].concat());
    let error = scene.fails(3, &["validate", &name, "--set", "data.background=red"]);
    assert!(error.contains("#rrggbb"), "{error}");
    let stats = json(&scene.succeeds(&["data", "stats", "pictures", "--json"]));
    assert_eq!(
        (&stats["alpha"], &stats["oriented"]),
        (&1.into(), &0.into())
    );
    assert!(
        scene
            .succeeds(&["data", "verify", "pictures"])
            .contains("1 that may be transparent")
    );
    let pack = [
        "data", "pack", "pictures", "--size", "4", "--out", "all.zip",
    ];
    scene.fails(4, &pack);
    scene.succeeds(&[&pack[..], &["--background", "#00ff00"]].concat());
}

/// One pixel of 16 is transparent.
fn image_with_alpha() -> Vec<u8> {
    let picture = image::RgbaImage::from_fn(4, 4, |x, y| {
        image::Rgba([9, 9, 9, if x + y == 0 { 0 } else { 255 }])
    });
    let mut bytes = std::io::Cursor::new(Vec::new());
    picture
        .write_to(&mut bytes, image::ImageFormat::Png)
        .unwrap();
    bytes.into_inner()
}

#[test]
fn classes_without_samples_are_a_question() {
    let scene = Scene::new();
    fs::create_dir(scene.path("letters")).unwrap();
    let file = |name: &str, start: &[u8], rest: &[u8]| {
        fs::write(scene.path("letters").join(name), [start, rest].concat()).unwrap();
    };
    let sizes = [4_u32, 4, 4].map(u32::to_be_bytes).concat();
    file(
        "train-images-idx3-ubyte",
        &[&[0, 0, 8, 3], &sizes[..]].concat(),
        &[7; 64],
    );
    file(
        "train-labels-idx1-ubyte",
        &[0, 0, 8, 1, 0, 0, 0, 4],
        &[1, 2, 1, 3],
    );
    let name = recipe(
        &scene,
        r#"kind = "idx", path = "letters", conditional = true"#,
    );
    for command in ["train", "validate"] {
        let error = scene.fails(4, &[command, &name]);
        assert!(
            error.contains("without samples: 0") && error.contains("renumber"),
            "{error}"
        );
    }
    let with = |value: &str| format!("data.empty_classes={value}");
    let validate = |value: &str| scene.succeeds(&["validate", &name, "--set", &with(value)]);
    let kept = validate("keep");
    assert!(
        kept.contains("classes                4") && kept.contains("no sample has class 0"),
        "{kept}"
    );
    let renumbered = validate("renumber");
    assert!(
        renumbered.contains("classes                3") && renumbered.contains("0 is 1, 1 is 2"),
        "{renumbered}"
    );
    scene.succeeds(&["train", &name, "--out", "run", "--set", &with("renumber")]);
    scene.succeeds(&[
        "sample", "run", "--seeds", "0-1", "--class", "3", "--out", "out",
    ]);
    let index = fs::read_to_string(scene.path("out/samples.csv")).unwrap();
    // The class that is called 3 is number 2.
    assert!(index.contains(",2,3\n"), "{index}");
    let stats = json(&scene.succeeds(&["data", "stats", "letters", "--json"]));
    assert_eq!(stats["classes"][0]["samples"], 0);
}

#[test]
fn data_are_shown_as_a_network_sees_them() {
    let scene = Scene::new();
    write_pictures(&scene);
    let name = recipe(&scene, DATA);
    for path in [&name, "pictures", "digits"] {
        let line = format!("data show {path} --count 5 --columns 3 --json");
        let show = words(&line);
        let said = json(&scene.succeeds(&[&show[..], &["--out", "grid.png"]].concat()));
        assert_eq!(said["shown"], 5, "{path}");
        assert!(scene.path("grid.png").is_file());
        fs::remove_file(scene.path("grid.png")).unwrap();
    }
    scene.fails(2, &["data", "show", "pictures", "--out", "grid.npz"]);
    scene.fails(4, &["data", "show", "nowhere", "--out", "grid.png"]);
}

#[cfg(unix)]
#[test]
fn a_pipe_in_the_place_of_a_file_is_refused_at_once() {
    let scene = Scene::new();
    for name in ["pipe.toml", "pipe.safetensors", "pipe.zip"] {
        let made = std::process::Command::new("mkfifo")
            .arg(scene.path(name))
            .status();
        assert!(made.unwrap().success());
    }
    scene.fails(3, &["validate", "pipe.toml"]);
    scene.fails(3, &["validate", "/dev/zero"]);
    scene.fails(5, &["info", "pipe.safetensors"]);
    scene.fails(4, &["data", "verify", "pipe.zip"]);
}
