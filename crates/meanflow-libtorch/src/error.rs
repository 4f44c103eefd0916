//! What can go wrong between Rust and libtorch.

use std::fmt::Display;

/// An error of this crate.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LibtorchError {
    /// A call into libtorch failed.
    #[error("libtorch could not {operation}: {message}")]
    Call {
        /// What was asked of libtorch.
        operation: &'static str,
        /// Its own words.
        message: String,
    },
    /// A group of processes did not do something together: one of them was lost, late, or asked for something else.
    #[error("rank {rank} of a group of {size} could not {operation}: {message}")]
    Group {
        /// What was asked of the group.
        operation: &'static str,
        /// Which of the group says so, from 0.
        rank: usize,
        /// How many are in the group.
        size: usize,
        /// libtorch's own words.
        message: String,
    },
    /// What a launcher says of the processes that it has started together.
    #[error("the processes that were started together: {problem}")]
    World {
        /// What was expected, and what the environment says.
        problem: String,
    },
    /// A device that is not there.
    #[error("device {device}: {problem}")]
    Device {
        /// The device asked for.
        device: String,
        /// Why it cannot be used.
        problem: String,
    },
    /// Another libtorch is loaded than the one this program was built for.
    #[error("libtorch: expected version {expected}, which this program was built for, got {got}")]
    Version {
        /// Major and minor version of the libtorch that is needed.
        expected: String,
        /// What is loaded.
        got: String,
    },
    /// A forward-mode level was entered by a thread that is in one.
    #[error(
        "jvp: expected a closure without another jvp, since libtorch's levels do not nest, got a jvp inside a jvp"
    )]
    Nested,
}

impl LibtorchError {
    /// A refusal of libtorch in its own words, which stand behind what was asked of it.
    pub fn call(operation: &'static str, message: impl Display) -> Self {
        Self::Call {
            operation,
            message: message.to_string(),
        }
    }

    /// Whether it says that memory was missing, of a device or of the host.
    pub fn is_out_of_memory(&self) -> bool {
        let words = [
            "out of memory",
            "can't allocate memory",
            "bad_alloc",
            "CUBLAS_STATUS_ALLOC_FAILED",
        ];
        matches!(self, Self::Call { message, .. } if words.iter().any(|word| message.contains(word)))
    }
}
