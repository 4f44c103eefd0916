//! `[compute]`: how a step is computed, apart from what it computes.

use meanflow_torch::{Compute, Engine, Precision};
use serde::{Deserialize, Serialize};

use super::TrainConfig;
use super::check::{Fault, fault};

/// `[compute]`; without the section everything is computed plainly, in the kind of the parameters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ComputeConfig {
    /// The kind of number of the matrix products.
    pub precision: Precision,
    /// Whether products of f32 on a CUDA device may round their factors to TF32.
    pub tf32: bool,
    /// Whether blocks keep their inputs only and are computed again for their gradient.
    pub checkpoint_blocks: bool,
    /// Whether a step's numbers stay on the device, which then decides itself whether they are finite, until they are logged.
    pub deferred: bool,
}

impl ComputeConfig {
    /// The part that concerns the network.
    pub fn network(&self) -> Compute {
        Compute {
            precision: self.precision,
            checkpoint_blocks: self.checkpoint_blocks,
        }
    }
}

impl TrainConfig {
    pub(super) fn fault_of_compute(&self) -> Option<Fault> {
        if self.compute.checkpoint_blocks && self.training.engine == Engine::DoubleBackward {
            return fault(
                "compute.checkpoint_blocks",
                &"expected another training.engine than double-backward: a block that is computed again has no second derivative",
            );
        }
        None
    }
}
