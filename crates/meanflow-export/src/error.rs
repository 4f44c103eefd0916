//! What can go wrong when a model is exported, or an export is opened.

use std::io;
use std::path::{Path, PathBuf};

use meanflow_libtorch::LibtorchError;
use meanflow_torch::TorchError;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExportError {
    /// The model cannot be computed, or its weights not be written.
    #[error(transparent)]
    Torch(#[from] TorchError),
    /// A `config.json` that says something else than the weights beside it.
    #[error("{}: {key}: expected {expected} as in the weights beside it, got {got}", path.display())]
    Config {
        /// The `config.json`.
        path: PathBuf,
        /// The key that differs, with those above it.
        key: String,
        /// What the metadata of the weights say.
        expected: String,
        /// What the file says.
        got: String,
    },
    /// A file that is not what it should be.
    #[error("{}: {problem}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// An operation of a network that has no ONNX node here.
    #[error("ONNX: {operation}: {problem}")]
    Operation {
        /// libtorch's name of it.
        operation: String,
        /// What is not known of it.
        problem: String,
    },
    /// A graph that a file cannot hold, or a call that asks for none.
    #[error("ONNX: {0}")]
    Graph(String),
    /// The file system refused.
    #[error("{}: could not {operation}", path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On which file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
}

impl From<LibtorchError> for ExportError {
    fn from(error: LibtorchError) -> Self {
        Self::Torch(error.into())
    }
}

impl ExportError {
    /// What makes an error of the system's reason.
    pub(crate) fn io(operation: &'static str, path: &Path) -> impl Fn(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::Io {
            operation,
            path: path.clone(),
            source,
        }
    }
}
