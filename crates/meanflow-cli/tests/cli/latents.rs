//! From pictures to latents, to a model, to latents, to pictures: with a VAE of diffusers' layout, small and random.

use std::collections::BTreeMap;
use std::fs;

use meanflow_data::npy::{NpyData, read};
use meanflow_data::npz::Npz;
use meanflow_data::picture::to_byte;
use meanflow_data::{Dataset, digits};
use meanflow_torch::networks::{Vae, VaeConfig};
use meanflow_torch::{Device, Kind, Tensor, weights};

use crate::support::{Scene, words};

/// Three channels: latents that could be mistaken for pictures.
const CONFIG: &str = r#"{
  "_class_name": "AutoencoderKL", "in_channels": 3, "out_channels": 3, "latent_channels": 3,
  "block_out_channels": [4, 8], "layers_per_block": 1, "norm_num_groups": 2,
  "scaling_factor": 0.5, "shift_factor": 0.25
}"#;

/// The VAE as a folder, and in memory.
pub(crate) fn vae(scene: &Scene) -> Vae {
    let folder = scene.path("vae");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("config.json"), CONFIG).unwrap();
    let config = VaeConfig::read(&folder.join("config.json")).unwrap();
    let vae = Vae::new(config, 1, Device::Cpu, Kind::Float).unwrap();
    let path = folder.join("diffusion_pytorch_model.safetensors");
    weights::save(&path, &vae.parameters().named(), BTreeMap::new()).unwrap();
    vae
}

/// A model of a few steps on the latents of the digits.
pub(crate) fn trained(scene: &Scene) -> Vae {
    let vae = vae(scene);
    scene.succeeds(&[
        "data", "encode", "digits", "--vae", "vae", "--flip", "--out", "latents",
    ]);
    scene.succeeds(&[
        "train",
        &scene.recipe(),
        "--set",
        "data={ kind = \"latents\", path = \"latents\", conditional = true, flip = true, shape = [3, 4, 4], classes = 10, samples = 1797 }",
        "--set",
        "network={ kind = \"dit\", patch = 2, width = 16, depth = 1, heads = 2, mlp_ratio = 2.0, embedding = \"th\" }",
        "--set",
        "sampling.nfe=[1]",
        "--set",
        "training.steps=3",
        "--vae",
        "vae",
        "--out",
        "run",
    ]);
    vae
}

/// Latents of 4×4 are pictures of 8×8.
#[test]
fn a_run_on_latents_draws_pictures_on_the_way() {
    let scene = Scene::new();
    trained(&scene);
    let size = |name: &str| image::image_dimensions(scene.path(name)).unwrap();
    // Four columns of 8 pixels, each four pixels wide, in lines of one.
    assert_eq!(size("run/samples/step-000003.png").0, 4 * 33 + 1);
    assert_eq!(size("run/data.png").0, 16 * 33 + 1);
    let error = scene.fails(2, &["train", "tiny.toml", "--vae", "vae", "--out", "b"]);
    assert!(
        error.contains("expected a model of latents [3, height, width], got one of [2]"),
        "{error}"
    );
}

fn floats(data: NpyData) -> Vec<f32> {
    match data {
        NpyData::F32(values) => values,
        other => panic!("expected f32, got {other:?}"),
    }
}

#[test]
fn encoded_pictures_are_what_the_encoder_says() {
    let scene = Scene::new();
    let vae = vae(&scene);
    let report = scene.succeeds(&words(
        "data encode digits --vae vae/diffusion_pytorch_model.safetensors --name tiny \
             --flip --json --out latents",
    ));
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    let facts = fs::read_to_string(scene.path("latents/latents.toml")).unwrap();
    let sha256 = report["vae_sha256"].as_str().unwrap();
    assert_eq!(sha256.len(), 64);
    for line in ["vae = \"tiny\"", "scale = 0.5", "shift = 0.25", sha256] {
        assert!(facts.contains(line), "{facts}");
    }
    let digits = digits::load().unwrap();
    let labels = read(&scene.path("latents/labels.npy"), 1 << 20).unwrap();
    assert_eq!(labels.data, NpyData::I64(digits.labels().to_vec()));
    // The last one is in an evaluation that is not full.
    let places = [0, 1, 1796];
    let examples = digits.examples(&places);
    let pictures = Tensor::from_slice(&examples.values).reshape([3, 1, 8, 8]);
    for (name, pictures) in [
        ("moments", pictures.shallow_clone()),
        ("moments_flip", pictures.flip([-1])),
    ] {
        let moments = read(&scene.path(&format!("latents/{name}.npy")), 1 << 22).unwrap();
        assert_eq!(moments.shape, [1797, 6, 4, 4]);
        let expected = vae.encode(&pictures.repeat([1, 3, 1, 1])).unwrap();
        let values = Tensor::from_slice(&floats(moments.data)).reshape([1797, 6, 4, 4]);
        for (row, &place) in places.iter().enumerate() {
            let error = (values.get(place as i64) - expected.get(row as i64))
                .abs()
                .max();
            // Rounding in f32: kernels depend on the number of rows.
            assert!(error.double_value(&[]) < 1e-5, "{name} {place}: {error:?}");
        }
    }
}

#[test]
fn a_model_of_latents_draws_pictures() {
    let scene = Scene::new();
    let vae = trained(&scene);
    let sample =
        |more: &[&str]| scene.succeeds(&[&["sample", "run", "--class", "4"][..], more].concat());
    sample(&["--seeds", "0-69", "--out", "latents.npz"]);
    sample(&["--seeds", "0-69", "--vae", "vae", "--out", "pictures.npz"]);
    sample(&["--seeds", "0-69", "--vae", "vae", "--out", "folder"]);
    sample(&["--seeds", "69,3", "--vae", "vae", "--out", "few"]);
    sample(&["--seeds", "0-5", "--vae", "vae", "--out", "grid.png"]);
    let array = |name: &str| {
        Npz::open(&scene.path(name), 1 << 20)
            .unwrap()
            .read("arr_0")
            .unwrap()
    };
    let (latents, pictures) = (array("latents.npz"), array("pictures.npz"));
    assert_eq!(
        (&latents.shape[..], &pictures.shape[..]),
        (&[70, 3, 4, 4][..], &[70, 8, 8, 3][..])
    );
    let z = Tensor::from_slice(&floats(latents.data)).reshape([70, 3, 4, 4]);
    let decoded = vae.decode(&(z / 0.5 + 0.25)).unwrap().permute([0, 2, 3, 1]);
    let expected = Vec::<f32>::try_from(decoded.reshape([-1])).unwrap();
    let NpyData::U8(bytes) = pictures.data else {
        panic!("pictures are bytes")
    };
    // One step of a byte: a value may lie on the border of two.
    let off = bytes
        .iter()
        .zip(&expected)
        .map(|(byte, value)| byte.abs_diff(to_byte(*value)));
    assert!(off.max().unwrap() <= 1);
    assert!(
        bytes.iter().any(|byte| (1..255).contains(byte)),
        "there is something to compare"
    );
    for seed in [3, 69] {
        let file =
            |folder: &str| fs::read(scene.path(&format!("{folder}/000000/{seed:06}.png"))).unwrap();
        assert_eq!(file("folder"), file("few"), "a picture is its seed's alone");
    }
    assert!(
        fs::read(scene.path("grid.png"))
            .unwrap()
            .starts_with(b"\x89PNG")
    );
}

#[test]
fn a_model_of_latents_is_evaluated_by_its_pictures() {
    let scene = Scene::new();
    let _ = trained(&scene);
    let seeds = ["--seeds", "0-19", "--vae", "vae", "--out", "same.npz"];
    scene.succeeds(&[&["sample", "run"][..], &seeds].concat());
    let mut eval = vec![
        "eval", "run", "--vae", "vae", "--ref", "same.npz", "--out", "r",
    ];
    eval.extend([
        "--labels",
        "balanced",
        "--steps",
        "1",
        "--repeats",
        "1",
        "--metrics",
        "pr",
    ]);
    scene.succeeds(&eval);
    let report = fs::read(scene.path("r/report.json")).unwrap();
    let report: serde_json::Value = serde_json::from_slice(&report).unwrap();
    // The same seeds and classes give the same pictures.
    for metric in ["precision", "recall"] {
        assert_eq!(
            report["samplers"][0]["metrics"][metric]["mean"], 1.0,
            "{report}"
        );
    }
    assert_eq!(report["memorisation"]["sample_to_data"], 0.0);
}

#[test]
fn what_does_not_go_together_is_refused() {
    let scene = Scene::new();
    trained(&scene);
    let said = scene.fails(2, &["sample", "run", "--seeds", "0", "--out", "folder"]);
    assert!(said.contains("--vae"), "{said}");
    let said = scene.fails(
        2,
        &[
            "data", "encode", "digits", "--vae", "vae", "--out", "latents",
        ],
    );
    assert!(said.contains("it must be empty"), "{said}");
    scene.trained("plane");
    let said = scene.fails(
        2,
        &[
            "sample", "plane", "--seeds", "0", "--vae", "vae", "--out", "x.png",
        ],
    );
    assert!(said.contains("[3, height, width]"), "{said}");
    let said = scene.fails(
        5,
        &[
            "data", "encode", "digits", "--vae", "nowhere", "--out", "new",
        ],
    );
    assert!(said.contains("nowhere"), "{said}");
    let said = scene.fails(
        4,
        &["data", "encode", "vae", "--vae", "vae", "--out", "new"],
    );
    assert!(said.contains("vae"), "{said}");
    let config = scene.path("vae/config.json");
    fs::write(&config, CONFIG.replace("[4, 8]", "[4, 8, 8, 8, 8]")).unwrap();
    let said = scene.fails(
        5,
        &["data", "encode", "digits", "--vae", "vae", "--out", "new"],
    );
    assert!(said.contains("missing: encoder.down_blocks.2"), "{said}");
    assert!(!scene.path("new").exists());
}

#[test]
fn a_decoder_other_than_that_of_the_latents_is_noted() {
    let scene = Scene::new();
    trained(&scene);
    let config = scene.path("vae/config.json");
    let path = scene.path("vae/diffusion_pytorch_model.safetensors");
    let other = Vae::new(
        VaeConfig::read(&config).unwrap(),
        2,
        Device::Cpu,
        Kind::Float,
    )
    .unwrap();
    weights::save(&path, &other.parameters().named(), BTreeMap::new()).unwrap();
    let arguments = words("sample run --seeds 0 --vae vae --out other.png");
    let (code, said) = scene.runs_under("exec \"$@\"", &arguments);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("another VAE"), "{said}");
}

#[test]
fn a_graph_of_latents_goes_on_to_their_pictures_with_a_vae_of_them() {
    let scene = Scene::new();
    trained(&scene);
    let export = ["export", "onnx", "run", "--out", "latents.onnx"];
    assert!(
        scene
            .succeeds(&export)
            .contains("sample   f32 [batch, 3, 4, 4]")
    );
    let decoded = [&export[..], &["--vae", "vae"]].concat();
    let said = scene.succeeds(&decoded);
    assert!(said.contains("sample   f32 [batch, 3, 8, 8]"), "{said}");
    let config = scene.path("vae/config.json");
    fs::write(
        &config,
        CONFIG.replace("\"latent_channels\": 3", "\"latent_channels\": 2"),
    )
    .unwrap();
    scene.fails(5, &decoded);
}
