//! Why a server does not start, or ends.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use meanflow_torch::TorchError;
use meanflow_train::TrainError;
use thiserror::Error;

/// Why a server does not start, or ends.
#[derive(Debug, Error)]
pub enum ServeError {
    /// It cannot listen there.
    #[error("could not listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// Other machines could reach it, and anybody could use it.
    #[error("{0} can be reached from other machines: expected a token, got none")]
    Open(SocketAddr),
    /// A token that cannot be sent, or that is guessed.
    #[error(
        "the token: expected at least {least} letters, digits or signs without spaces, got {got}"
    )]
    Token {
        /// The least number of characters.
        least: usize,
        /// What was given, without giving it away.
        got: String,
    },
    /// Neither a model nor a run nor a folder with some.
    #[error(
        "{path}: expected a weights file, a run directory or a folder of run directories, got {got}"
    )]
    Nothing {
        /// The path that was given.
        path: PathBuf,
        /// What lies there.
        got: String,
    },
    /// Threads could not be started.
    #[error("could not start the server's threads: {0}")]
    Threads(io::Error),
    /// A model cannot be used.
    #[error(transparent)]
    Torch(#[from] TorchError),
    /// A run or a VAE cannot be used.
    #[error(transparent)]
    Train(#[from] TrainError),
}
