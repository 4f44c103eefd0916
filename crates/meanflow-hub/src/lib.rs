//! Models of a hub of repositories by name.
//!
//! [`Repository`] is what a name says, [`Hub`] where it is fetched from and kept: the environment says that (`HF_ENDPOINT`, `HF_HOME`,
//! `HF_HUB_OFFLINE`, `HF_TOKEN`), as for other programs that use such hubs.
//!
//! A revision is asked for first and resolved to a commit; files are then those of that commit, in a folder of its name. They come over HTTPS,
//! with the length and, of large files, the SHA-256 that the hub gives, and are written whole or not at all. Nothing that is fetched is
//! run.

mod cache;
mod error;
mod fetch;
mod hub;
mod repository;

pub use error::HubError;
pub use hub::{Hub, Wanted};
pub use repository::Repository;

/// The code in the README compiles and runs.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
