//! Opens what every command opens: the device, and a model.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use meanflow_torch::weights::{self, Verify};
use meanflow_torch::{Device, Model, ModelConfig, device, memory};
use meanflow_train::{TrainConfig, TrainError, weights_within};

use crate::commands::located::located;
use crate::options::{Compute, Reading};
use crate::output;

/// Opens the device, sets the number of threads, and keeps memory from one step for the next.
pub(crate) fn open_device(compute: &Compute) -> anyhow::Result<Device> {
    memory::keep();
    let device::Opened { device, note } = device::open_explained(&compute.device)?;
    if let Some(note) = note {
        output::note(note);
    }
    if let Some(threads) = compute.threads {
        tch::set_num_threads(i32::try_from(threads.get())?);
    }
    Ok(device)
}

/// Which weights of a run.
#[derive(Debug, clap::Args)]
pub(crate) struct CheckpointArgs {
    /// The checkpoint of a run after so many steps, in the place of its last weights
    #[arg(long, value_name = "STEP")]
    checkpoint: Option<u64>,
    /// The average of a run, by its decay or as half-life-N [default: the first of the recipe]
    #[arg(long, value_name = "NAME")]
    pub(crate) ema: Option<String>,
}

/// A model, and where it is from.
pub(crate) struct Loaded {
    /// The file of the weights.
    pub(crate) weights: PathBuf,
    pub(crate) model: Model,
    /// What the file says beside the weights.
    pub(crate) metadata: BTreeMap<String, String>,
}

impl CheckpointArgs {
    /// Whether one is named.
    pub(crate) fn is_named(&self) -> bool {
        self.checkpoint.is_some() || self.ema.is_some()
    }

    /// The file of these weights of a MODEL that has been located.
    pub(crate) fn weights(&self, path: &Path) -> Result<PathBuf, TrainError> {
        weights_within(path, self.checkpoint, self.ema.as_deref())
    }

    /// The model with these weights of a MODEL.
    pub(crate) fn load(
        &self,
        model: &Path,
        device: Device,
        reading: &Reading,
    ) -> anyhow::Result<Loaded> {
        let weights = self.weights(&located(model, reading)?)?;
        let (model, metadata) = load_model(&weights, device, reading)?;
        Ok(Loaded {
            weights,
            model,
            metadata,
        })
    }
}

/// The model of a weights file with the file's metadata. A note on standard error names a file without a content hash.
pub(crate) fn load_model(
    path: &Path,
    device: Device,
    reading: &Reading,
) -> anyhow::Result<(Model, BTreeMap<String, String>)> {
    let verify = match reading.no_verify {
        true => Verify::Nothing,
        false => Verify::Content,
    };
    let loaded = Model::load_with(path, device, verify)?;
    if verify == Verify::Content && weights::header(path)?.content.is_none() {
        output::note(format_args!(
            "note: {} has no hash of its content (an early version wrote it): damage to its numbers would not be noticed",
            path.display()
        ));
    }
    Ok(loaded)
}

/// The model of a recipe, without its data where the recipe says enough.
pub(crate) fn model_of(config: &TrainConfig) -> Result<ModelConfig, TrainError> {
    let facts = config.data.facts(config.seed)?;
    config.model(&facts.shape, facts.classes)
}
