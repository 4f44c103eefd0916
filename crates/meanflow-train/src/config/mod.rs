//! The recipe of a run: TOML, read into types that cannot be wrong.
//!
//! Every number that changes results must be in the file: there are no silent defaults. Optional sections mean
//! "without": no `[guidance]` is no guidance, no `[class_dropout]` drops nothing, no `max_grad_norm` clips nothing.
//! Unknown keys, NaN and numbers out of range are errors that name file, line, column and key.

mod check;
mod checkpoints;
mod compute;
mod data;
mod document;
mod error;
mod numbers;
mod overrides;
mod presets;
mod read;
mod sections;
mod source;
#[cfg(test)]
mod tests;

use std::fs;
use std::io::{self, Read};
use std::path::Path;

use meanflow_cfg::{ClassDropout, Guidance};
use meanflow_core::schedule::Schedule;
use meanflow_core::times::TimeSampler;
use meanflow_core::weighting::AdaptiveWeight;
use meanflow_torch::Prediction;
use meanflow_torch::networks::NetworkConfig;
use serde::{Deserialize, Serialize};

pub use checkpoints::{CheckpointsConfig, OnSaveError};
pub use compute::ComputeConfig;
pub use data::{
    BackgroundName, ChannelCount, CifarConfig, DataConfig, EmptyClasses, Expected, LatentsConfig,
    PicturesConfig,
};
pub use error::{ConfigError, Place};
pub use numbers::{Decay, NonNegative, Positive, Share};
pub use presets::{PRESETS, Preset};
pub use sections::{
    EmaConfig, HalfLife, LrConfig, OptimizerConfig, OptimizerKind, SamplingConfig, TrainingConfig,
};

pub use source::RecipeSource;

use document::Document;

/// A checked recipe. Made by [`TrainConfig::read`] or [`TrainConfig::parse`] only, so that one that exists is valid.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct TrainConfig {
    /// Everything random follows from it: initial weights, order, noise, times, dropped labels.
    pub seed: u64,
    /// What is learned.
    pub data: DataConfig,
    /// The network of `u(z, r, t)`.
    pub network: NetworkConfig,
    /// What the network's output stands for: `"u"`, the average velocity, also without the key, or `"x"`, a sample of which the velocity is made.
    #[serde(default, skip_serializing_if = "is_default")]
    pub prediction: Prediction,
    /// The path between data and noise (M1).
    pub path: Schedule,
    /// The law of `(r, t)`.
    pub times: TimeSampler,
    /// The adaptive weight of the loss.
    pub loss: AdaptiveWeight,
    /// Guidance baked into the target (M19, M20); none without the section.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guidance: Option<Guidance>,
    /// How labels are dropped for the null class; none are without the section.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class_dropout: Option<ClassDropout>,
    /// The optimiser.
    pub optimizer: OptimizerConfig,
    /// The learning rate over the run.
    pub lr: LrConfig,
    /// The weight averages kept; samples are drawn with the first.
    pub ema: EmaConfig,
    /// Batch, length, and what is written when.
    pub training: TrainingConfig,
    /// How a step is computed.
    #[serde(default, skip_serializing_if = "is_default")]
    pub compute: ComputeConfig,
    /// Which checkpoints are kept, and what a failed save means.
    #[serde(default, skip_serializing_if = "is_default")]
    pub checkpoints: CheckpointsConfig,
    /// The pictures drawn while training.
    pub sampling: SamplingConfig,
}

/// Longest recipe that is read.
const MAX_BYTES: u64 = 1 << 20;

/// The text of a regular file that is no longer than a recipe can be: a pipe would wait for ever, a device never ends.
fn read_text(path: &Path) -> io::Result<String> {
    let metadata = fs::metadata(path)?;
    if !metadata.is_file() {
        let kind = if metadata.is_dir() {
            "a folder"
        } else {
            "a pipe or a device"
        };
        let text = format!("expected a recipe, which is a TOML file, got {kind}");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    let mut text = String::new();
    let read = fs::File::open(path)?
        .take(MAX_BYTES + 1)
        .read_to_string(&mut text)?;
    if read as u64 > MAX_BYTES {
        let text = format!("expected a recipe of at most {MAX_BYTES} bytes, got a longer file");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    Ok(text)
}

fn is_default<T: Default + PartialEq>(section: &T) -> bool {
    *section == T::default()
}

impl TrainConfig {
    /// Reads the file and applies `overrides` (`key=value`, in order).
    ///
    /// # Errors
    /// [`ConfigError`], with the place of the key that is wrong.
    pub fn read(path: &Path, overrides: &[String]) -> Result<Self, ConfigError> {
        RecipeSource::read(path, overrides)?.parse()
    }

    /// As [`TrainConfig::read`], from a text; `path` is only for messages.
    ///
    /// # Errors
    /// As [`TrainConfig::read`].
    ///
    /// ```
    /// use std::path::Path;
    /// use meanflow_train::TrainConfig;
    ///
    /// let text = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../configs/digits.toml"));
    /// let path = Path::new("digits.toml");
    /// let config = TrainConfig::parse(path, text, &["training.steps=100".to_owned()])?;
    /// assert_eq!(config.training.steps.get(), 100);
    /// // An error names file, line, column and key.
    /// let error = TrainConfig::parse(path, &text.replace("seed", "sead"), &[]).unwrap_err();
    /// assert!(error.to_string().contains("digits.toml:"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn parse(path: &Path, text: &str, overrides: &[String]) -> Result<Self, ConfigError> {
        let document = Document::parse(path, text, overrides)?;
        let config: Self = document.decode()?;
        match config.fault() {
            Some(fault) => Err(document.error(fault.key, fault.message)),
            None => Ok(config),
        }
    }

    /// The resolved recipe as a tree: overrides applied, optional values filled in.
    pub fn to_table(&self) -> toml::Table {
        toml::Table::try_from(self).expect("a config is made of strings, numbers, lists and tables")
    }

    /// The resolved recipe as text, which [`TrainConfig::parse`] reads back as the same recipe.
    pub fn to_toml(&self) -> String {
        self.to_table().to_string()
    }
}
