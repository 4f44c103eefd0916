//! MeanFlow models for other programs.
//!
//! * [`hub_folder`]: a folder as users of model hubs know it, and what reads it back.
//! * [`onnx`]: the sampler as an ONNX graph.
//!
//! Nothing here knows a network: a folder holds what a weights file says of itself, and a graph is recorded from the sampler that
//! runs. A network of a program's own is exported as ours are.

mod error;
pub mod hub_folder;
pub mod onnx;

pub use error::ExportError;

/// The code in the README compiles and runs.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
