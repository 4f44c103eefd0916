//! The sections of a recipe that belong to the training loop itself.

use std::num::{NonZeroU64, NonZeroUsize};

use meanflow_torch::{AdamConfig, JvpMethod};
use serde::{Deserialize, Serialize};

use crate::ema::EmaSchedule;

use super::numbers::{Decay, NonNegative, Positive, Share};

/// `[optimizer]`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OptimizerConfig {
    /// Which one.
    pub kind: OptimizerKind,
    /// Decay of the mean of gradients.
    pub beta1: Decay,
    /// Decay of the mean of squared gradients.
    pub beta2: Decay,
    /// Added to the root of the second moment.
    pub epsilon: Positive,
    /// Decay of the weights a step, times the rate.
    pub weight_decay: NonNegative,
}

/// The optimisers there are.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OptimizerKind {
    /// Kingma and Ba 2015: weight decay is part of the gradient.
    Adam,
    /// Loshchilov and Hutter 2019: weight decay apart from the gradient.
    Adamw,
}

impl OptimizerConfig {
    /// The same as the optimiser takes it.
    pub fn constants(&self) -> AdamConfig {
        AdamConfig {
            beta1: self.beta1.get(),
            beta2: self.beta2.get(),
            epsilon: self.epsilon.get(),
            weight_decay: self.weight_decay.get(),
            decoupled: self.kind == OptimizerKind::Adamw,
        }
    }
}

/// `[lr]`: the learning rate as a function of the step.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "schedule", rename_all = "kebab-case", deny_unknown_fields)]
pub enum LrConfig {
    /// A linear rise over the warm-up, then `peak`.
    Constant {
        /// The rate after the warm-up.
        peak: Positive,
        /// Steps of the rise; 0 starts at `peak`.
        warmup_steps: u64,
    },
    /// A linear rise over the warm-up, then half a cosine down to `final_ratio · peak` at the last step.
    Cosine {
        /// The rate after the warm-up.
        peak: Positive,
        /// Steps of the rise; 0 starts at `peak`.
        warmup_steps: u64,
        /// What is left of the peak at the end.
        final_ratio: Share,
    },
}

impl LrConfig {
    /// Steps of the linear rise.
    pub fn warmup_steps(&self) -> u64 {
        match *self {
            Self::Constant { warmup_steps, .. } | Self::Cosine { warmup_steps, .. } => warmup_steps,
        }
    }
}

/// `[ema]`: averages of the weights. The first draws the samples and becomes the final weights file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EmaConfig {
    /// One average for each decay a step.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub decays: Vec<Decay>,
    /// One average for each half-life, after those of `decays`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub half_lives: Vec<HalfLife>,
    /// Whether constant decays begin low: step `n` keeps at most `(1 + n)/(10 + n)`, so that nothing of the start is left.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub warmup: bool,
    /// Steps from one update to the next, which keeps as much as one a step would.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub every: NonZeroU64,
}

impl EmaConfig {
    /// What the averages are called, in their order.
    pub fn names(&self) -> Vec<String> {
        EmaSchedule::all(self).map(EmaSchedule::name).collect()
    }
}

/// An average that keeps half of its past for so many samples (Karras et al. 2022).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HalfLife {
    /// Samples after which half is kept.
    pub samples: Positive,
    /// At most this share of the samples seen until then; no limit without the key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ramp: Option<Share>,
}

fn yes() -> bool {
    true
}

fn is_yes(value: &bool) -> bool {
    *value
}

fn one() -> NonZeroU64 {
    NonZeroU64::MIN
}

fn is_one(number: &NonZeroU64) -> bool {
    *number == NonZeroU64::MIN
}

/// `[training]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainingConfig {
    /// Samples a step.
    pub batch_size: NonZeroUsize,
    /// Microbatches that a batch is computed in. Its gradient is their sum in a fixed tree of pairs. Each thread of a CPU computes
    /// one at a time, so that more of them save memory and employ more threads; a CUDA device computes one after the other.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub microbatches: NonZeroU64,
    /// The route to `du/dt`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub jvp: JvpMethod,
    /// Steps of the whole run.
    pub steps: NonZeroU64,
    /// A checkpoint after so many steps, and one at the end.
    pub checkpoint_every: NonZeroU64,
    /// A picture of samples after so many steps, and one at the end.
    pub sample_every: NonZeroU64,
    /// A line of metrics after so many steps.
    #[serde(default = "ten")]
    pub log_every: NonZeroU64,
    /// Threads that prepare the samples of steps to come; one a core, at most four, without the key. No result depends
    /// on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub num_workers: Option<NonZeroUsize>,
    /// The gradient is scaled down to this norm when it is longer; never without the key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_grad_norm: Option<Positive>,
}

impl TrainingConfig {
    /// Microbatches of a batch.
    pub(crate) fn microbatches(&self) -> usize {
        usize::try_from(self.microbatches.get()).unwrap_or(usize::MAX)
    }
}

fn is_default(jvp: &JvpMethod) -> bool {
    *jvp == JvpMethod::default()
}

fn ten() -> NonZeroU64 {
    NonZeroU64::new(10).expect("ten is not zero")
}

/// `[sampling]`: the pictures drawn while training, always from seeds 0, 1, 2, ….
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SamplingConfig {
    /// Rows and columns of the grid that each entry of `nfe` gets.
    pub grid: [NonZeroUsize; 2],
    /// Numbers of function evaluations, that is network evaluations a sample; one grid each, from top to bottom.
    pub nfe: Vec<NonZeroUsize>,
}

impl SamplingConfig {
    /// Samples in one grid.
    pub fn count(&self) -> usize {
        let [rows, columns] = self.grid;
        rows.get() * columns.get()
    }
}
