//! The border to libtorch: what tch does not bind, behind safe functions. The only crate with `unsafe` code.
//!
//! `cpp` holds the C++ side: functions of plain arguments that turn every failure into a message. Here each has one safe
//! function around it, whose arguments are live tensors or numbers, and whose failures are a [`LibtorchError`]. Nothing in
//! this crate knows what a network or a loss is.
//!
//! * [`operations`]: derivatives of norms, masks, fused Adam, averages; [`kernels`]: operations of our own on the CPU.
//! * [`ForwardLevel`]: libtorch's forward mode. [`checkpoint`]: blocks that the backward pass computes again.
//! * [`device`]: which devices there are; [`host`]: numbers to and from them; [`memory`]: what is kept of freed memory, peaks.
//! * [`profile`]: what libtorch did during a piece of work, and how long each part took.
//! * [`recover`]: panics with libtorch's words, made errors. [`read_into`]: the bytes of a tensor.
//! * [`trace`]: the operations of a piece of work, recorded.
//! * [`CudaGraph`]: work that a CUDA device captures once and replays with one call.
//! * [`ProcessGroup`]: processes that compute together, which find each other in a [`Store`]; [`World`]: what their launcher says.
//!   [`Supervisor`]: whether they make progress. [`Team`]: processes that share a piece of work, each a [`Shard`] of it.
//!
//! ```
//! use meanflow_libtorch::{device, host};
//! let device = device::open("cpu")?;
//! let there = host::upload(&[1.0_f32, 2.0], device);
//! assert_eq!(host::read(&there)?, [1.0, 2.0]);
//! # Ok::<(), meanflow_libtorch::LibtorchError>(())
//! ```
#![allow(unsafe_code)]

mod call;
pub mod checkpoint;
mod cuda_graph;
pub mod device;
mod error;
mod forward_mode;
mod graph;
mod group;
pub mod host;
pub mod kernels;
pub mod memory;
pub mod operations;
mod pairwise;
pub mod profile;
mod recover;
mod shard;
mod store;
mod supervision;
mod team;
pub mod trace;
mod transfer;
mod version;
mod world;

pub use call::done;
pub use cuda_graph::CudaGraph;
pub use error::LibtorchError;
pub use forward_mode::ForwardLevel;
pub use graph::changed;
pub use group::ProcessGroup;
pub use recover::recover;
pub use shard::Shard;
pub use store::Store;
pub use supervision::{Finding, Progress, Seen, Stalled, Supervisor};
pub use team::Team;
pub use transfer::read_into;
pub use version::loaded_version;
pub use world::{Peers, World};

/// The code in the README compiles and runs.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
