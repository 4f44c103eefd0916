//! Files that appear whole or not at all, and survive a power cut; their hashes, and the header that many of them have.
//!
//! Whatever this workspace keeps is written here: into a hidden file beside, synced, renamed, and the folder synced. Every
//! such change goes through a [`layer`], which tests replace to fail any of them, to record all and cut the power, or to say that
//! the disk is full.
//!
//! ```
//! use std::io::Write;
//! use meanflow_files::{Durability, replace};
//!
//! let folder = tempfile::tempdir()?;
//! let path = folder.path().join("numbers.txt");
//! replace(&path, Durability::Synced, |error| error, |file| file.write_all(b"1 2 3"))?;
//! assert_eq!(std::fs::read(&path)?, b"1 2 3");
//! # Ok::<(), std::io::Error>(())
//! ```

mod durable;
mod hash;
pub mod layer;
mod leftovers;
mod replace;
mod safetensors;
mod space;

pub use durable::{DurableFile, create_folder, remove_file, remove_folder, rename, sync_folder};
pub use hash::{Sha256, sha256, sha256_of_file, sha256_of_reader};
pub use leftovers::{is_leftover, remove_leftovers};
pub use replace::{Durability, replace};
pub use safetensors::{SafetensorsError, SafetensorsHeader};
pub use space::free_space;

/// The code in the README compiles and runs.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
