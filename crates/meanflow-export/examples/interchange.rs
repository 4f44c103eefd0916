//! Exports small models of every kind, each in a folder, with what they draw: what `cargo xtask interchange` compares PyTorch and onnxruntime
//! with. Every parameter is random, since the published initialisation would hide half of a network.

use std::collections::BTreeMap;
use std::path::Path;

use meanflow_export::hub_folder::{self, ModelCard};
use meanflow_export::onnx;
use meanflow_torch::{Model, Tensor, weights};

#[path = "../tests/common/mod.rs"]
mod common;

/// The model whose graph goes on to the pictures of its latents.
const LATENTS: &str = "dit-latents";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let argument = std::env::args().nth(1);
    let out = argument.unwrap_or_else(|| {
        std::env::temp_dir()
            .join("meanflow-interchange")
            .display()
            .to_string()
    });
    let latent = (LATENTS, common::latents());
    for (name, model) in common::models().into_iter().chain([latent]) {
        export(&Path::new(&out).join(name), name, &model)?;
        println!("{out}/{name}");
    }
    Ok(())
}

fn export(folder: &Path, name: &str, model: &Model) -> Result<(), Box<dyn std::error::Error>> {
    std::fs::create_dir_all(folder)?;
    let card = ModelCard {
        name,
        license: None,
        datasets: Vec::new(),
        model: model.config(),
        parameters: model.parameters().count(),
        class_names: None,
        vae: None,
        training: None,
        metrics: Vec::new(),
        has_samples: false,
    };
    hub_folder::write(folder, model, &BTreeMap::new(), &card, None)?;
    let seeds: Vec<i64> = common::seeds().iter().map(|seed| *seed as i64).collect();
    let mut expected = vec![
        ("seeds".to_owned(), Tensor::from_slice(&seeds)),
        ("noise".to_owned(), common::noises(model)),
    ];
    let labels = common::labels(model).map(|labels| Tensor::from_slice(&labels));
    expected.extend(labels.map(|labels| ("labels".to_owned(), labels)));
    let vae = (name == LATENTS).then(common::vae);
    for steps in [1, 2] {
        let samples = common::drawn(model, steps);
        if let Some(vae) = &vae {
            expected.push((format!("pictures_{steps}"), common::decoded(vae, &samples)));
        }
        expected.push((format!("samples_{steps}"), samples));
        let graph = onnx::sampler(model, steps, vae.as_ref().map(common::decoder))?;
        onnx::write(&folder.join(format!("model_{steps}.onnx")), &graph)?;
    }
    let path = folder.join("expected.safetensors");
    weights::save(&path, &expected, BTreeMap::new())?;
    Ok(())
}
