//! `[compute]`: how a step is computed, apart from what it computes.

use meanflow_cfg::{DropRows, Guidance, Window};
use meanflow_core::{JumpRows, MaskOrder};
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
    /// Whether the metrics of a step stay on the device until they are logged, so that nothing waits for it.
    pub async_metrics: bool,
    /// Whether steps are the same work on the same memory, which a CUDA device records once and replays.
    pub graph: bool,
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
        let varies = self.varies().filter(|_| self.compute.graph)?;
        fault(
            "compute.graph",
            &format!("expected {varies}: a recording does the same to as many rows in every step"),
        )
    }

    /// What has to be otherwise for every step to be the same work.
    fn varies(&self) -> Option<&'static str> {
        let guidance = self.guidance.filter(|guidance| *guidance != Guidance::NONE);
        let by_chance = self
            .label_drop
            .is_some_and(|drop| drop.rows() != DropRows::Count);
        let varying = [
            (!self.compute.async_metrics, "compute.async_metrics = true"),
            (
                !matches!(self.times.jump_rows, JumpRows::Count { .. }),
                "times.jump_rows of kind \"count\"",
            ),
            (
                self.times.r.is_some() && self.times.order == MaskOrder::BeforeOrdering,
                "times.order = \"after-ordering\" where r has a law of its own",
            ),
            (
                guidance.is_some_and(|guidance| guidance.window() != Window::ALL),
                "a guidance.window from 0 to 1",
            ),
            (
                guidance.is_some() && by_chance,
                "label_drop.rows = \"count\" with guidance",
            ),
            (self.network.has_dropout(), "a network.dropout of 0"),
        ];
        let found = varying.into_iter().find(|(varies, _)| *varies);
        found.map(|(_, expected)| expected)
    }
}
