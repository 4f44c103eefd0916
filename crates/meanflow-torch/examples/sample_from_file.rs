//! Draws samples from a weights file, in one evaluation of the network each.
//!
//! `cargo run --release -p meanflow-torch --example sample_from_file -- runs/digits/model.safetensors`; without a file it
//! makes one of a network that has learnt nothing.

use std::error::Error;
use std::path::{Path, PathBuf};

use meanflow_core::Schedule;
use meanflow_torch::layers::TimeEmbedding;
use meanflow_torch::networks::{MlpConfig, NetworkConfig};
use meanflow_torch::sampler::{Request, sample, uniform_grid};
use meanflow_torch::{Device, Kind, Model, ModelConfig, Prediction};

fn main() -> Result<(), Box<dyn Error>> {
    let path = match std::env::args_os().nth(1) {
        Some(path) => PathBuf::from(path),
        None => untrained(&std::env::temp_dir())?,
    };
    draw(&path)
}

/// Draws eight samples of a weights file and prints what they are like.
pub(crate) fn draw(path: &Path) -> Result<(), Box<dyn Error>> {
    let (model, metadata) = Model::load(path, Device::Cpu)?;
    let classes = model.config().classes;
    let seeds: Vec<u64> = (0..8).collect();
    // One known class a seed, for a model that has classes.
    let labels: Vec<i64> = (0..8).map(|seed| seed % classes.max(1)).collect();
    let request = Request {
        seeds: &seeds,
        labels: (classes > 0).then_some(&labels[..]),
        grid: &uniform_grid(1),
        batch_size: 8,
    };
    let samples = sample(&model, &request)?;
    println!(
        "{}: {} parameters",
        path.display(),
        model.parameters().count()
    );
    println!(
        "trained for {} steps",
        metadata.get("step").map_or("no", String::as_str)
    );
    println!(
        "samples {:?}, mean {:.3}",
        samples.size(),
        samples.mean(Kind::Double).double_value(&[])
    );
    Ok(())
}

/// A weights file to try it on.
pub(crate) fn untrained(folder: &Path) -> Result<PathBuf, Box<dyn Error>> {
    let config = ModelConfig {
        network: NetworkConfig::Mlp(MlpConfig {
            width: 16,
            depth: 2,
            embedding: TimeEmbedding::TH,
        }),
        shape: vec![2],
        classes: 3,
        schedule: Schedule::Linear,
        prediction: Prediction::Velocity,
    };
    let path = folder.join("untrained.safetensors");
    Model::new(config, 0, Device::Cpu, Kind::Float)?.save(&path, Default::default())?;
    Ok(path)
}
