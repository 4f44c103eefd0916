//! Opens what every command opens: the device, and a model.

use std::collections::BTreeMap;
use std::path::Path;

use meanflow_torch::weights::{self, Verify};
use meanflow_torch::{Device, Model, ModelConfig, device, memory};
use meanflow_train::{TrainConfig, TrainError};

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
