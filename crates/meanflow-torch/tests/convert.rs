//! Official weights become ours and back without a change.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use meanflow_testing::{config, networks};
use meanflow_torch::convert::{Layout, below, export, import};
use meanflow_torch::layers::TimeEmbedding;
use meanflow_torch::networks::{NetworkConfig, UnetConfig};
use meanflow_torch::{Device, Kind, Model, Tensor, weights};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../meanflow-goldens/files")
        .join(name)
}

fn model(network: NetworkConfig, shape: [i64; 3], classes: i64) -> Model {
    let config = config(network, &shape, classes);
    Model::new(config, 1, Device::Cpu, Kind::Float).unwrap()
}

fn dit() -> (Model, BTreeMap<String, Tensor>) {
    let network = networks::dit([2, 32, 2, 2], 4.0, TimeEmbedding::TH);
    let file = weights::read(&golden("dit_official_a.safetensors")).unwrap();
    (model(network, [4, 8, 8], 10), below(&file, "params/"))
}

fn unet() -> (Model, BTreeMap<String, Tensor>) {
    let network = NetworkConfig::Unet(UnetConfig {
        augment: 6,
        dropout: 0.2,
        ..networks::unet(16, &[2, 2], 1, &[8])
    });
    let file = weights::read(&golden("songunet_official_a.safetensors")).unwrap();
    (model(network, [3, 16, 16], 0), below(&file, "params/"))
}

#[test]
fn there_and_back_is_the_same_file() {
    for ((model, official), layout) in [(dit(), Layout::Flax), (unet(), Layout::PyTorch)] {
        assert_eq!(Layout::of(official.keys().map(String::as_str)), layout);
        let entries = import(&model, layout, &official, Path::new("x")).unwrap();
        assert_eq!(entries.len(), official.len(), "a line for every tensor");
        let lines: Vec<String> = entries.iter().map(ToString::to_string).collect();
        let line = match layout {
            Layout::Flax => {
                "net/x_embedder/proj/kernel [2, 2, 4, 32] = x_embedder.proj.weight [32, 4, 2, 2]"
            }
            Layout::PyTorch => "dec.16x16_up.skip.resample_filter [1, 1, 4, 4], a constant",
        };
        assert!(lines.iter().any(|known| known == line), "{lines:?}");
        let (back, entries) = export(&model, layout).unwrap();
        assert_eq!(entries.len(), official.len());
        let back: BTreeMap<String, Tensor> = back.into_iter().collect();
        assert!(back.keys().eq(official.keys()));
        for (name, tensor) in &official {
            assert_eq!(&back[name], tensor, "{name}");
        }
    }
}

#[test]
fn transformer_weights_take_the_detour_over_the_other_layout() {
    let (first, official) = dit();
    import(&first, Layout::Flax, &official, Path::new("x")).unwrap();
    let (torch, _) = export(&first, Layout::PyTorch).unwrap();
    assert!(torch.iter().any(|(name, _)| name == "pos_embed"));
    let (second, _) = dit();
    import(
        &second,
        Layout::PyTorch,
        &torch.into_iter().collect(),
        Path::new("x"),
    )
    .unwrap();
    let (back, _) = export(&second, Layout::Flax).unwrap();
    for (name, tensor) in back {
        assert_eq!(tensor, official[&name], "{name}");
    }
}

/// Weights that were cast to halves as a whole, the constant too, are those of the halves, widened.
#[test]
fn weights_cast_to_halves_are_widened() {
    let (model, official) = dit();
    import(&model, Layout::Flax, &official, Path::new("x")).unwrap();
    let (torch, _) = export(&model, Layout::PyTorch).unwrap();
    let path = Path::new("x");
    for half in [Kind::BFloat16, Kind::Half] {
        // As a program does that cuts digits off: a step towards zero at most, of 8 bits or of 11.
        let cut = 1.0
            - if half == Kind::Half {
                2_f64.powi(-12)
            } else {
                2_f64.powi(-9)
            };
        let cast = torch
            .iter()
            .map(|(name, tensor)| (name.clone(), (tensor * cut).to_kind(half)));
        let mut cast: BTreeMap<String, Tensor> = cast.collect();
        import(&model, Layout::PyTorch, &cast, path).unwrap();
        let (back, _) = export(&model, Layout::PyTorch).unwrap();
        for (name, tensor) in back.iter().filter(|(name, _)| name != "pos_embed") {
            assert_eq!(*tensor, cast[name].to_kind(Kind::Float), "{name}");
        }
        // Ten of a hundred are more than a step of either half.
        let other = &cast["pos_embed"] * 1.1;
        cast.insert("pos_embed".into(), other);
        let refusal = import(&model, Layout::PyTorch, &cast, path).unwrap_err();
        assert!(
            refusal.to_string().contains("pos_embed: not the constant"),
            "{refusal}"
        );
    }
}

#[test]
fn every_difference_is_named_and_nothing_is_changed() {
    let (model, mut official) = unet();
    let before = model.parameters().tensors()[0].copy();
    official.remove("map_layer0.bias");
    let filter = "enc.8x8_down.skip.resample_filter";
    official.insert(filter.into(), &official[filter] * 2.0);
    official.insert(
        "map_layer1.weight".into(),
        Tensor::zeros([3], (Kind::Float, Device::Cpu)),
    );
    official.insert(
        "stray".into(),
        Tensor::zeros([3], (Kind::Float, Device::Cpu)),
    );
    let error = import(
        &model,
        Layout::PyTorch,
        &official,
        Path::new("file.safetensors"),
    )
    .unwrap_err()
    .to_string();
    for part in [
        "file.safetensors",
        "missing: map_layer0.bias [64]",
        "enc.8x8_down.skip.resample_filter: not the constant",
        "map_layer1.weight: expected shape [64, 64]",
        "unexpected: stray [3]",
    ] {
        assert!(error.contains(part), "{part} in {error}");
    }
    assert_eq!(model.parameters().tensors()[0], &before);
}
