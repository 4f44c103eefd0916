//! The model that is exported.

use std::collections::BTreeMap;
use std::path::PathBuf;

use meanflow_torch::{Device, Model};
use meanflow_train::weights_within;

use crate::commands::located::located;
use crate::commands::opening::load_model;
use crate::options::Reading;

/// Which weights are exported.
#[derive(Debug, clap::Args)]
pub(super) struct ExportedWeights {
    /// A weights file (.safetensors), a run directory or an exported folder
    #[arg(value_name = "MODEL")]
    pub(super) model: PathBuf,
    /// The checkpoint of a run after so many steps, in the place of its last weights
    #[arg(long, value_name = "STEP")]
    pub(super) checkpoint: Option<u64>,
    /// The average of a run, by its decay or as half-life-N [default: the first of the recipe]
    #[arg(long, value_name = "NAME")]
    pub(super) ema: Option<String>,
    #[command(flatten)]
    pub(super) reading: Reading,
}

/// What was opened.
pub(super) struct Opened {
    /// The file of the weights.
    pub(super) weights: PathBuf,
    pub(super) model: Model,
    pub(super) metadata: BTreeMap<String, String>,
}

impl ExportedWeights {
    /// On the CPU, where every export is made.
    pub(super) fn open(&self) -> anyhow::Result<Opened> {
        let path = located(&self.model, &self.reading)?;
        let weights = weights_within(&path, self.checkpoint, self.ema.as_deref())?;
        let (model, metadata) = load_model(&weights, Device::Cpu, &self.reading)?;
        Ok(Opened {
            weights,
            model,
            metadata,
        })
    }
}
