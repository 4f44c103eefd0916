//! What can go wrong between features, reference statistics and a metric.

use std::path::PathBuf;

use meanflow_data::DataError;
use meanflow_torch::{LibtorchError, TorchError};
use tch::TchError;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EvalError {
    /// A tensor has another shape than the metric needs.
    #[error("{what}: expected shape {expected}, got {got:?}")]
    Shape {
        /// The tensor.
        what: &'static str,
        /// The shape it should have.
        expected: String,
        /// The shape it has.
        got: Vec<i64>,
    },
    /// Features that are infinite or no numbers.
    #[error("{what}: row {row} is not finite")]
    NotFinite {
        /// The tensor.
        what: &'static str,
        /// Its first row with such a number.
        row: i64,
    },
    /// Fewer samples than a metric is defined for.
    #[error("{what}: at least {needed} samples are needed, got {got}")]
    TooFew {
        /// The metric or statistic.
        what: &'static str,
        /// The smallest number that is enough.
        needed: u64,
        /// The number given.
        got: u64,
    },
    /// What a metric needs is not there.
    #[error("there are no {what}")]
    Missing {
        /// What is needed.
        what: &'static str,
    },
    /// Something that was asked for cannot be done with these samples, features or reference.
    #[error("{problem}")]
    Unfit {
        /// What does not fit, and what to do.
        problem: String,
    },
    /// A matrix that is the covariance of nothing.
    #[error("the covariance is {problem}")]
    Covariance {
        /// What is wrong with it.
        problem: String,
    },
    /// A file of statistics or features that is not as it should be.
    #[error("{}: {problem}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, and what to do.
        problem: String,
    },
    /// An archive or array that cannot be read.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A weights file or a call into libtorch.
    #[error(transparent)]
    Torch(#[from] TorchError),
}

impl EvalError {
    pub(crate) fn missing(what: &'static str) -> Self {
        Self::Missing { what }
    }
}

/// Says what was asked of libtorch.
pub(crate) fn libtorch(operation: &'static str) -> impl Fn(TchError) -> EvalError {
    move |error| EvalError::Torch(LibtorchError::call(operation, error).into())
}
