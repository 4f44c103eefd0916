//! `[checkpoints]`: which are kept, and what a failed save means.

use std::num::{NonZeroU64, NonZeroUsize};

use serde::{Deserialize, Serialize};

/// `[checkpoints]`. No result depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckpointsConfig {
    /// How many of the newest checkpoints are kept.
    #[serde(default = "three")]
    pub keep_last: NonZeroUsize,
    /// Checkpoints whose step is a multiple of this are kept for ever; none are without the key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_every: Option<NonZeroU64>,
    /// What happens when a checkpoint cannot be written, on a full disk for example.
    #[serde(default)]
    pub on_save_error: OnSaveError,
}

/// What happens when a checkpoint cannot be written before the end of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnSaveError {
    /// The run ends with the error; the checkpoints before stay.
    #[default]
    Stop,
    /// The run warns and trains on until the next one is due.
    Warn,
}

impl Default for CheckpointsConfig {
    fn default() -> Self {
        Self {
            keep_last: three(),
            keep_every: None,
            on_save_error: OnSaveError::default(),
        }
    }
}

fn three() -> NonZeroUsize {
    NonZeroUsize::new(3).expect("three is not zero")
}
