//! Official weights of a transformer become a weights file of ours, from which samples are drawn.
//!
//! `cargo run --release -p meanflow-torch --example convert_official`. The official weights are those of a small network,
//! which the tests compare with; those of a large one are converted in the same way, or by `meanflow convert`.

use std::error::Error;
use std::path::Path;

use meanflow_core::Schedule;
use meanflow_torch::convert::{Layout, below, import};
use meanflow_torch::layers::TimeEmbedding;
use meanflow_torch::networks::{DitConfig, NetworkConfig};
use meanflow_torch::{Device, Kind, Model, ModelConfig, Prediction, weights};

const OFFICIAL: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../meanflow-goldens/files/dit_official_a.safetensors"
);

fn main() -> Result<(), Box<dyn Error>> {
    convert(&std::env::temp_dir())
}

/// Converts the official weights into a file in `folder`, and reads it.
pub(crate) fn convert(folder: &Path) -> Result<(), Box<dyn Error>> {
    let config = ModelConfig {
        network: NetworkConfig::Dit(DitConfig {
            patch: 2,
            width: 32,
            depth: 2,
            heads: 2,
            mlp_ratio: 4.0,
            embedding: TimeEmbedding::TH,
        }),
        shape: vec![4, 8, 8],
        classes: 10,
        schedule: Schedule::Linear,
        prediction: Prediction::Velocity,
    };
    let model = Model::new(config, 0, Device::Cpu, Kind::Float)?;
    // The file holds more than the parameters, which are below one name.
    let official = below(&weights::read(Path::new(OFFICIAL))?, "params/");
    let layout = Layout::of(official.keys().map(String::as_str));
    for entry in import(&model, layout, &official, Path::new(OFFICIAL))? {
        println!("{entry}");
    }
    let path = folder.join("converted.safetensors");
    model.save(&path, Default::default())?;
    let (read, _) = Model::load(&path, Device::Cpu)?;
    let name = "final_layer.linear.weight";
    assert_eq!(read.parameters().get(name), model.parameters().get(name));
    println!("{}", path.display());
    Ok(())
}
