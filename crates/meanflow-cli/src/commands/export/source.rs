//! The model that is exported.

use std::path::PathBuf;

use meanflow_torch::Device;

use crate::commands::opening::{CheckpointArgs, Loaded};
use crate::options::Reading;

/// Which weights are exported.
#[derive(Debug, clap::Args)]
pub(super) struct ExportedWeights {
    /// A weights file (.safetensors), a run directory or an exported folder
    #[arg(value_name = "MODEL")]
    pub(super) model: PathBuf,
    #[command(flatten)]
    pub(super) checkpoint: CheckpointArgs,
    #[command(flatten)]
    reading: Reading,
}

impl ExportedWeights {
    /// On the CPU, where every export is made.
    pub(super) fn open(&self) -> anyhow::Result<Loaded> {
        self.checkpoint
            .load(&self.model, Device::Cpu, &self.reading)
    }
}
