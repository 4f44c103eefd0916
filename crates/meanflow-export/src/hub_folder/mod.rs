//! A folder with a model as users of model hubs know it.
//!
//! `README.md` is the model card with its YAML front matter, `config.json` says what the model is, `model.safetensors` has the weights with a
//! hash of their content, `samples.png` is a grid of samples, and `modeling_meanflow.py` loads the folder in PyTorch without this program.
//! Whatever reads weights reads such a folder; [`check`] compares what its `config.json` says with what the weights say.

mod card;
mod config;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use meanflow_files::{Durability, replace};
use meanflow_torch::Model;
use meanflow_torch::networks::NetworkConfig;

pub use card::{Metric, ModelCard, Training};
pub use config::check;

use crate::ExportError;

/// The name of the weights.
pub const WEIGHTS: &str = "model.safetensors";
/// The name of the description.
pub const CONFIG: &str = "config.json";
/// The name of the model card.
pub const CARD: &str = "README.md";
/// The name of the grid of samples.
pub const SAMPLES: &str = "samples.png";
/// The name of the loader for PyTorch.
pub const LOADER: &str = "modeling_meanflow.py";
/// The loader itself: one file that needs PyTorch, NumPy and safetensors.
pub const LOADER_TEXT: &str = include_str!("modeling_meanflow.py");

/// Whether [`LOADER`] has this network.
pub fn loads_in_pytorch(network: &NetworkConfig) -> bool {
    !matches!(network, NetworkConfig::Custom(_))
}

/// Writes a model with the metadata of its weights, its card and a picture of samples (PNG) into a folder that exists; each file whole or
/// not at all. The card comes last.
///
/// # Errors
/// If a file cannot be written, or the metadata are not what this program writes.
pub fn write(
    folder: &Path,
    model: &Model,
    metadata: &BTreeMap<String, String>,
    card: &ModelCard<'_>,
    samples: Option<&[u8]>,
) -> Result<(), ExportError> {
    model.save(&folder.join(WEIGHTS), metadata.clone())?;
    let config =
        config::text(&model.described(metadata.clone())).map_err(|problem| ExportError::File {
            path: folder.join(WEIGHTS),
            problem,
        })?;
    write_text(&folder.join(CONFIG), config.as_bytes())?;
    if let Some(samples) = samples {
        write_text(&folder.join(SAMPLES), samples)?;
    }
    if loads_in_pytorch(&model.config().network) {
        write_text(&folder.join(LOADER), LOADER_TEXT.as_bytes())?;
    }
    write_text(&folder.join(CARD), card.text().as_bytes())
}

fn write_text(path: &Path, bytes: &[u8]) -> Result<(), ExportError> {
    let io = ExportError::io("write", path);
    replace(path, Durability::Synced, &io, |file| {
        file.write_all(bytes).map_err(&io)
    })
}
