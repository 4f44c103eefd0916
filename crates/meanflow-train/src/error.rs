//! What can stop a run.

use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};

use meanflow_data::DataError;
use meanflow_torch::{LibtorchError, TorchError};

use crate::config::ConfigError;

/// Why a run did not start or did not go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    /// The recipe cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The data cannot be read, or a picture cannot be written.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The network cannot be built, or a weights file is not usable.
    #[error(transparent)]
    Torch(#[from] TorchError),
    /// The operating system refused.
    #[error("{}: could not {operation}", path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The weights that a run was to begin with cannot be its start.
    #[error("{}: not the start of this run", path.display())]
    Init {
        /// The weights file.
        path: PathBuf,
        /// What does not fit.
        source: TorchError,
    },
    /// A process of the run was given something else than the first.
    #[error("rank {rank}: expected the recipe, the data and the version of rank 0, got others")]
    Ranks {
        /// Which of the processes, from 0.
        rank: usize,
    },
    /// Another process trains in this folder.
    #[error("{}: the run directory is in use by another process", path.display())]
    InUse {
        /// The run directory.
        path: PathBuf,
    },
    /// The folder holds something else than a run.
    #[error("{}: expected a run directory or an empty folder, got a folder with other files", path.display())]
    NotARun {
        /// The folder.
        path: PathBuf,
    },
    /// There are checkpoints, and none of them is whole.
    #[error("{}: no checkpoint is whole:\n{}", path.display(), list(rejected))]
    NoneWhole {
        /// The folder of checkpoints.
        path: PathBuf,
        /// Name and reason for each, the newest first.
        rejected: Vec<(PathBuf, String)>,
    },
    /// A later version of the program wrote the checkpoint.
    #[error("{}: a checkpoint of format_version {version}, which a later version of meanflow writes", path.display())]
    Newer {
        /// The checkpoint.
        path: PathBuf,
        /// Its layout.
        version: u64,
    },
    /// The disk has no room for a checkpoint; nothing was written.
    #[error("{}: {needed} bytes are needed for checkpoints, and {free} are free", path.display())]
    NoRoom {
        /// The run directory.
        path: PathBuf,
        /// Bytes that are needed.
        needed: u64,
        /// Bytes that are free.
        free: u64,
    },
    /// The machine has less memory than the recipe needs; nothing was built.
    #[error("the recipe needs {} MiB of memory for weights, gradients, optimizer, averages and activations, and this machine has {} MiB", needed >> 20, there >> 20)]
    NoMemory {
        /// Bytes that are needed.
        needed: u64,
        /// Bytes of memory and swap.
        there: u64,
    },
    /// A run was to begin at the start where there are checkpoints.
    #[error("{}: expected no checkpoints, as the run is to begin at the start, got those after {} steps", path.display(), steps.iter().map(u64::to_string).collect::<Vec<_>>().join(", "))]
    NotNew {
        /// The run directory.
        path: PathBuf,
        /// The steps after which there are checkpoints.
        steps: Vec<u64>,
    },
    /// A folder that was to be gone on from has no checkpoint.
    #[error("{}: expected a checkpoint or a run directory with checkpoints, got neither", path.display())]
    NoCheckpoint {
        /// The folder.
        path: PathBuf,
    },
    /// A run has no such checkpoint or average.
    #[error("{}: expected {wanted}, there are: {}", path.display(), if there.is_empty() { "none".to_owned() } else { there.join(", ") })]
    NoWeights {
        /// The run directory.
        path: PathBuf,
        /// What was asked for.
        wanted: String,
        /// What there is.
        there: Vec<String>,
    },
    /// The run was started with another recipe.
    #[error("{}: the run was started with another recipe; these keys differ:\n{}", path.display(), differences.join("\n"))]
    Changed {
        /// The checkpoint.
        path: PathBuf,
        /// One line a key: the key, what it was and what it is.
        differences: Vec<String>,
    },
    /// Samples hold NaN or infinity: they are no samples of anything.
    #[error("{bad} of {of} samples hold NaN or infinity")]
    SamplesNotFinite {
        /// How many do.
        bad: usize,
        /// How many were drawn.
        of: usize,
    },
    /// The data are not those that the run was begun with.
    #[error(
        "{}: the run was begun with other data: names, sizes, labels or contents of the samples differ (hash {}…, now {}…)",
        path.display(), &before[..before.len().min(12)], &now[..now.len().min(12)]
    )]
    DataChanged {
        /// The checkpoint.
        path: PathBuf,
        /// The hash of the data that the run was begun with.
        before: String,
        /// That of the present data.
        now: String,
    },
    /// Loss or gradient were not finite too often, although never many times in a row.
    #[error(
        "the loss or its gradient was not finite in {skipped} of the last 64 steps, the last of them step {step}"
    )]
    OftenNotFinite {
        /// The last of them.
        step: u64,
        /// How many there were.
        skipped: u32,
    },
    /// A file is no crash bundle of this version.
    #[error("{}: no crash bundle: {problem}", path.display())]
    Bundle {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The update of a step left the range of f32, although loss and gradient were finite.
    #[error("the weights were not finite after the update of step {step}")]
    WeightsNotFinite {
        /// The step.
        step: u64,
    },
    /// Loss or gradient were not finite, over and over.
    #[error(
        "the loss or its gradient was not finite in {skipped} steps in a row, the last of them step {step}"
    )]
    NotFinite {
        /// The last of them.
        step: u64,
        /// How many there were.
        skipped: u32,
    },
}

impl From<LibtorchError> for TrainError {
    fn from(error: LibtorchError) -> Self {
        Self::Torch(error.into())
    }
}

impl TrainError {
    /// Attaches what was tried to an error of the operating system.
    pub(crate) fn io(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io {
            operation,
            path: path.to_owned(),
            source,
        }
    }
}

fn list(rejected: &[(PathBuf, String)]) -> String {
    let lines = rejected
        .iter()
        .map(|(path, reason)| format!("  {}: {reason}", path.display()));
    lines.collect::<Vec<_>>().join("\n")
}

/// Whether there was no room to write: anywhere in the chain of causes, a full disk, a quota or a limit on file size.
pub fn is_out_of_space(error: &(dyn Error + 'static)) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    let mut cause = Some(error);
    while let Some(error) = cause {
        if matches!(error.downcast_ref(), Some(TrainError::NoRoom { .. })) {
            return true;
        }
        let kind = error.downcast_ref::<io::Error>().map(io::Error::kind);
        if matches!(kind, Some(StorageFull | QuotaExceeded | FileTooLarge)) {
            return true;
        }
        cause = error.source();
    }
    false
}
