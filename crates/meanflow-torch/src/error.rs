//! What can go wrong between a caller, a weights file and libtorch.

use std::path::PathBuf;

use meanflow_libtorch::LibtorchError;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TorchError {
    /// A call into libtorch failed, or a device is not there.
    #[error(transparent)]
    Libtorch(#[from] LibtorchError),
    /// A tensor has another shape than the operation needs.
    #[error("{what}: expected shape {expected}, got {got:?}")]
    Shape {
        /// The tensor.
        what: String,
        /// The shape it should have, `…` for dimensions that are free.
        expected: String,
        /// The shape it has.
        got: Vec<i64>,
    },
    /// A network configuration that describes no network.
    #[error("network {key}: expected {expected}, got {got}")]
    Config {
        /// The configuration key.
        key: &'static str,
        /// The values that are possible.
        expected: String,
        /// The value given.
        got: String,
    },
    /// A network that this program has not registered.
    #[error(transparent)]
    Registry(#[from] meanflow_core::RegistryError),
    /// A weights file that does not fit the network, every difference listed.
    #[error("{}: does not fit the network:\n{}", path.display(), list(problems))]
    Weights {
        /// The file.
        path: PathBuf,
        /// One line for every missing, unexpected or differing tensor.
        problems: Vec<String>,
    },
    /// A file that is not a readable weights file.
    #[error("{}: {problem}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, and what to do.
        problem: String,
    },
    /// The file system refused.
    #[error("{}: could not {operation}", path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On which file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// An adaptive solver did not reach its end.
    #[error("adaptive sampling: {0}")]
    Solver(#[from] meanflow_core::SolverError),
    /// A call with arguments that contradict each other or the model.
    #[error("{what}: expected {expected}, got {got}")]
    Argument {
        /// The argument.
        what: &'static str,
        /// What it should be.
        expected: String,
        /// What it is.
        got: String,
    },
}

fn list(problems: &[String]) -> String {
    problems
        .iter()
        .map(|problem| format!("  {problem}"))
        .collect::<Vec<_>>()
        .join("\n")
}
