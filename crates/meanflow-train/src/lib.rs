//! The MeanFlow training loop: run directory, checkpoints, metrics, resume.
//!
//! A recipe ([`TrainConfig`]) and a folder are a run; [`train`] does it, or goes on with it where it was left. All
//! random numbers are functions of (seed, purpose, step), so a run that was stopped and one that was not end with the
//! same bits. The library prints nothing: an [`Observer`] is told what happens.
//!
//! ```no_run
//! use std::path::Path;
//! use std::sync::atomic::AtomicBool;
//! use meanflow_torch::Device;
//! use meanflow_train::{Silent, TrainConfig, train};
//!
//! let config = TrainConfig::read(Path::new("configs/digits.toml"), &["training.steps=100".to_owned()])?;
//! let stop = AtomicBool::new(false);
//! train(config, Path::new("runs/digits"), Device::Cpu, &stop, &mut Silent)?;
//! # Ok::<(), meanflow_train::TrainError>(())
//! ```

mod bins;
mod changes;
mod checkpoint;
mod clock;
pub mod config;
mod control;
mod cost;
mod crash;
#[cfg(test)]
mod crash_states;
mod data;
mod ema;
mod error;
mod files;
mod graphed_step;
mod guard;
mod init_from;
pub mod latents;
mod lr;
mod manifest;
pub mod metrics;
mod observer;
mod options;
mod origin;
mod post_hoc;
mod provenance;
mod record;
mod replay;
mod run;
mod run_dir;
mod samples;
mod saver;
mod shared;
mod start;
mod step_metrics;
mod tensorboard;
mod train_state;
mod trainer;

pub use bins::Bins;
pub use changes::recipe_changes;
pub use checkpoint::{Checkpoint, CheckpointState, Checkpoints, Found, RecipeChange};
pub use config::{ConfigError, TrainConfig};
pub use control::Outcome;
pub use cost::{Cost, Memory};
pub use crash::{CrashBundle, CrashRow, CrashStart, CrashStep};
pub use data::DataFacts;
pub use ema::ema_notes;
pub use error::{TrainError, is_out_of_space};
pub use files::fingerprint;
pub use guard::Guard;
pub use init_from::{InitFrom, InitReport};
pub use manifest::Fingerprints;
pub use meanflow_files::free_space;
pub use observer::{Event, Observer, Silent};
pub use options::{Resume, RunOptions};
pub use origin::Origin;
pub use post_hoc::{Part, PostHocEma, Wanted, post_hoc_ema};
pub use provenance::{CLASS_NAMES_KEY, LATENTS_KEY, RECIPE_KEY, class_names_of, recipe_of};
pub use record::{DataRecord, picture_of};
pub use replay::{Replay, replay};
pub use run::{train, train_among, train_with};
pub use run_dir::{RunDir, RunFiles, weights_of, weights_within};
pub use samples::{Samples, balanced, data_labels};
pub use step_metrics::StepMetrics;
pub use trainer::Trainer;

/// The code in the README compiles and runs.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
