//! The VAE: its size, its files, its derivative. meanflow-goldens holds its numbers against diffusers'.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use meanflow_testing::{normal, relative};
use meanflow_torch::networks::{Vae, VaeConfig, VaeFiles};
use meanflow_torch::{Device, Dual, Kind, Tensor, TorchError, jvp, weights};

/// Stable Diffusion's own size.
fn stable_diffusion() -> VaeConfig {
    VaeConfig {
        in_channels: 3,
        out_channels: 3,
        latent_channels: 4,
        block_out_channels: vec![128, 256, 512, 512],
        layers_per_block: 2,
        norm_num_groups: 32,
        attention: true,
        quant_conv: true,
        post_quant_conv: true,
        scaling_factor: 0.18215,
        shift_factor: 0.0,
    }
}

fn goldens() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../meanflow-goldens/files")
}

/// A copy of the small golden's folder, to damage.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["config.json", "diffusion_pytorch_model.safetensors"] {
            fs::copy(goldens().join("vae_a").join(name), folder.path().join(name)).unwrap();
        }
        Self(folder)
    }

    fn load(&self) -> Result<Vae, TorchError> {
        Vae::load(self.0.path(), Device::Cpu)
    }

    fn weights(&self) -> PathBuf {
        VaeFiles::of(self.0.path()).weights
    }

    /// Writes the weights again with these changes.
    fn rewrite(&self, change: impl FnOnce(&mut BTreeMap<String, Tensor>)) {
        let mut tensors = weights::read(&self.weights()).unwrap();
        change(&mut tensors);
        let tensors: Vec<(String, Tensor)> = tensors.into_iter().collect();
        weights::save(&self.weights(), &tensors, BTreeMap::new()).unwrap();
    }

    /// Replaces a part of the configuration.
    fn configure(&self, from: &str, to: &str) {
        let path = self.0.path().join("config.json");
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{from}");
        fs::write(path, text.replace(from, to)).unwrap();
    }

    fn refusal(&self) -> String {
        self.load().unwrap_err().to_string()
    }
}

#[test]
fn the_published_size_has_diffusers_tensors() {
    let ours = stable_diffusion().tensors().unwrap();
    let mut lines: Vec<String> = ours
        .iter()
        .map(|(name, shape)| format!("{name} {shape:?}"))
        .collect();
    lines.sort_unstable();
    let list = fs::read_to_string(goldens().join("vae_sd_tensors.txt")).unwrap();
    let official: Vec<&str> = list.lines().filter(|line| !line.starts_with('#')).collect();
    assert_eq!(lines, official);
    let count: i64 = ours
        .iter()
        .map(|(_, shape)| shape.iter().product::<i64>())
        .sum();
    assert_eq!(count, 83_653_863);
}

#[test]
fn what_the_configuration_says_is_read() {
    let config = Folder::new().load().unwrap().config().clone();
    assert_eq!(config.block_out_channels, [4, 8, 12]);
    assert_eq!((config.scaling_factor, config.shift_factor), (0.5, 0.25));
    assert_eq!(config.factor(), 4);
    // The file of the published VAE is of a time before some of the keys.
    let folder = Folder::new();
    for absent in ["\"scaling_factor\": 0.5,", "\"shift_factor\": 0.25,"] {
        folder.configure(absent, "");
    }
    let config = folder.load().unwrap().config().clone();
    assert_eq!((config.scaling_factor, config.shift_factor), (0.18215, 0.0));
}

#[test]
fn attention_has_older_names() {
    let folder = Folder::new();
    let before = folder.load().unwrap();
    folder.rewrite(|tensors| {
        let renamed = std::mem::take(tensors).into_iter().map(|(name, tensor)| {
            let name = name.replace(".to_q.", ".query.").replace(".to_k.", ".key.");
            let name = name.replace(".to_v.", ".value.");
            (name.replace(".to_out.0.", ".proj_attn."), tensor)
        });
        *tensors = renamed.collect();
        assert!(tensors.contains_key("decoder.mid_block.attentions.0.proj_attn.weight"));
    });
    let after = folder.load().unwrap();
    for ((name, one), (_, other)) in before.parameters().iter().zip(after.parameters().iter()) {
        assert_eq!(one, other, "{name}");
    }
}

#[test]
fn weights_that_do_not_fit_are_named() {
    let tensor = "encoder.mid_block.attentions.0.to_q.weight";
    let refusal = |change: &dyn Fn(&mut BTreeMap<String, Tensor>)| {
        let folder = Folder::new();
        folder.rewrite(|tensors| change(tensors));
        folder.refusal()
    };
    let missing = refusal(&|tensors| drop(tensors.remove(tensor)));
    assert!(missing.contains(&format!("missing: {tensor}")), "{missing}");
    let extra = refusal(&|tensors| drop(tensors.insert("encoder.x".into(), Tensor::from(1_f32))));
    assert!(extra.contains("unexpected: encoder.x"), "{extra}");
    // diffusers takes a convolution of side 1 for an affine map only in files of the older, original layout.
    let convolution = refusal(&|tensors| {
        let weight = tensors.remove(tensor).unwrap();
        tensors.insert(tensor.into(), weight.unsqueeze(-1).unsqueeze(-1));
    });
    let expected = format!("{tensor}: expected shape [12, 12], got [12, 12, 1, 1]");
    assert!(convolution.contains(&expected), "{convolution}");
    let half = refusal(&|tensors| {
        let weight = tensors[tensor].to_kind(Kind::Half);
        tensors.insert(tensor.into(), weight);
    });
    assert!(half.contains("expected type F32, got F16"), "{half}");
}

/// What is replaced in the configuration, by what, and what the refusal must say.
const MISFITS: [(&str, &str, &str); 11] = [
    ("AutoencoderKL", "AutoencoderTiny", "expected AutoencoderKL"),
    ("\"silu\"", "\"mish\"", "act_fn: expected silu"),
    (
        "\"sample_size\"",
        "\"sample_sizes\"",
        "unknown field `sample_sizes`",
    ),
    (
        "\"latents_mean\": null",
        "\"latents_mean\": [1.0]",
        "latents_mean",
    ),
    (
        "\"DownEncoderBlock2D\"",
        "\"AttnDownEncoderBlock2D\"",
        "down_block_types",
    ),
    (
        "\"norm_num_groups\": 4",
        "\"norm_num_groups\": 3",
        "block_out_channels",
    ),
    (
        "\"layers_per_block\": 2",
        "\"layers_per_block\": 0",
        "layers_per_block",
    ),
    (
        "\"layers_per_block\": 2",
        "\"layers_per_block\": 3",
        "missing: encoder.down_blocks.0.resnets.2",
    ),
    (
        "\"scaling_factor\": 0.5",
        "\"scaling_factor\": 0.0",
        "scaling_factor",
    ),
    ("\"in_channels\": 3,", "", "missing field `in_channels`"),
    ("{", "[", "not a configuration"),
];

#[test]
fn configurations_that_do_not_fit_are_named() {
    for (from, to, reason) in MISFITS {
        let folder = Folder::new();
        folder.configure(from, to);
        let refusal = folder.refusal();
        assert!(refusal.contains(reason), "{to}: {refusal}");
    }
    let folder = Folder::new();
    fs::remove_file(folder.0.path().join("config.json")).unwrap();
    assert!(folder.refusal().contains("config.json"));
    let pickle = folder.0.path().join("diffusion_pytorch_model.bin");
    fs::write(&pickle, "x").unwrap();
    let refusal = Vae::load(&pickle, Device::Cpu).unwrap_err().to_string();
    assert!(refusal.contains("pickle"), "{refusal}");
}

#[test]
fn files_of_another_kind_are_named_with_the_way_out() {
    for (name, hint) in [
        ("diffusion_pytorch_model.bin", "pickle"),
        ("diffusion_pytorch_model.fp16.safetensors", "half precision"),
    ] {
        let folder = Folder::new();
        let at = |name: &str| folder.0.path().join(name);
        fs::rename(at("diffusion_pytorch_model.safetensors"), at(name)).unwrap();
        let refusal = folder.refusal();
        for part in [name, hint, "save_pretrained"] {
            assert!(refusal.contains(part), "{part}: {refusal}");
        }
    }
    let folder = Folder::new();
    folder.rewrite(|tensors| {
        let name = "encoder.mid.attn_1.q.weight".to_owned();
        tensors.insert(name, Tensor::from(1_f32));
    });
    let refusal = folder.refusal();
    assert!(
        refusal.contains("original layout") && refusal.contains("from_single_file"),
        "{refusal}"
    );
    // A tensor too many in diffusers' own names is no other layout.
    let folder = Folder::new();
    folder.rewrite(|tensors| drop(tensors.insert("encoder.x".into(), Tensor::from(1_f32))));
    assert!(!folder.refusal().contains("original layout"));
}

#[test]
fn pictures_and_latents_of_other_shapes_are_refused() {
    let vae = Folder::new().load().unwrap();
    let zeros = |shape: &[i64]| Tensor::zeros(shape, (Kind::Float, Device::Cpu));
    for shape in [
        &[1, 3, 16, 18][..],
        &[1, 1, 16, 16],
        &[3, 16, 16],
        &[1, 3, 0, 16],
    ] {
        assert!(vae.encode(&zeros(shape)).is_err(), "{shape:?}");
    }
    for shape in [&[1, 3, 4, 4][..], &[2, 4, 4], &[1, 2, 0, 4]] {
        assert!(vae.decode(&zeros(shape)).is_err(), "{shape:?}");
    }
    let moments = vae.encode(&zeros(&[2, 3, 8, 12])).unwrap();
    assert_eq!(moments.size(), [2, 4, 2, 3]);
    let pictures = vae.decode(&zeros(&[2, 2, 2, 3])).unwrap();
    assert_eq!(pictures.size(), [2, 3, 8, 12]);
    assert!(!moments.requires_grad() && !pictures.requires_grad());
}

/// Rounding of a deep network in f64.
const EXACT: f64 = 1e-10;

#[test]
fn duals_go_through_encoder_and_decoder() {
    let config = Folder::new().load().unwrap().config().clone();
    let vae = Vae::new(config, 3, Device::Cpu, Kind::Double).unwrap();
    let both = |x: &Dual| {
        let moments = vae.network().encode(x);
        vae.network()
            .decode(&moments.map_linear(|x| x.narrow(1, 0, 2)))
    };
    let (x, dx) = (normal(1, &[3, 3, 8, 12]), normal(2, &[3, 3, 8, 12]));
    let dual = Dual::new(x.shallow_clone(), dx.narrow(0, 0, 2)).unwrap();
    let (primal, tangent) = both(&dual).into_parts();
    let plain = |x: &[Tensor]| vec![both(&x[0].shallow_clone().into()).into_parts().0];
    let (values, derivatives) = jvp(plain, &[x], &[dx]).unwrap();
    assert!(relative(&primal, &values[0]) < EXACT);
    assert!(relative(&tangent.unwrap(), &derivatives[0].narrow(0, 0, 2)) < EXACT);
}
