//! `[compute]`: how a step is computed, apart from what it computes.

use meanflow_core::MeanFlowRatio;
use meanflow_torch::{Compute, Dtype, GradientSum, JvpMethod};
use serde::{Deserialize, Serialize};

use super::check::{Fault, fault};
use super::{TrainConfig, is_default};

/// `[compute]`; without the section everything is computed plainly, in the kind of the parameters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ComputeConfig {
    /// The dtype of the matrix products.
    pub dtype: Dtype,
    /// Whether products of f32 on a CUDA device may round their factors to TF32.
    pub tf32: bool,
    /// Whether blocks keep their inputs only and are computed again for their gradient.
    pub activation_checkpointing: bool,
    /// Whether the metrics of a step stay on the device until they are logged, so that nothing waits for it.
    pub async_metrics: bool,
    /// Whether steps are the same work on the same memory, which a CUDA device records once and replays.
    pub cuda_graph: bool,
    /// In which order several processes add up their gradients; no effect with one. With another than `fixed-tree` the digits of a run
    /// depend on the number of processes, and a run that goes on with another number is another one.
    #[serde(skip_serializing_if = "is_default")]
    pub gradient_sum: GradientSum,
    /// Whether each of several processes has the moments of the optimiser and the averages of its own part of the parameters alone
    /// (ZeRO-1), which saves memory; no effect with one. No digit depends on it.
    #[serde(skip_serializing_if = "is_default")]
    pub shard_optimizer: bool,
}

impl ComputeConfig {
    /// The part that concerns the network.
    pub fn network(&self) -> Compute {
        Compute {
            dtype: self.dtype,
            activation_checkpointing: self.activation_checkpointing,
        }
    }
}

impl TrainConfig {
    pub(super) fn fault_of_compute(&self) -> Option<Fault> {
        if self.compute.activation_checkpointing && self.training.jvp == JvpMethod::DoubleBackward {
            return fault(
                "compute.activation_checkpointing",
                &"expected another training.jvp than double-backward: a block that is computed again has no second derivative",
            );
        }
        let varies = self.varies().filter(|_| self.compute.cuda_graph)?;
        fault(
            "compute.cuda_graph",
            &format!("expected {varies}: a recording does the same to as many rows in every step"),
        )
    }

    /// What has to be otherwise for every step to be the same work.
    fn varies(&self) -> Option<&'static str> {
        let varying = [
            (!self.compute.async_metrics, "compute.async_metrics = true"),
            (
                !matches!(self.times.mean_flow_ratio, MeanFlowRatio::Count(_)),
                "times.mean_flow_ratio of kind \"count\"",
            ),
            (self.network.has_dropout(), "a network.dropout of 0"),
        ];
        let found = varying.into_iter().find(|(varies, _)| *varies);
        found.map(|(_, expected)| expected)
    }
}
