//! The commands, one file each, with what it takes; each returns its exit code.

pub(crate) mod check;
mod classes;
pub(crate) mod convert;
pub(crate) mod data;
mod decode;
mod destination;
pub(crate) mod doctor;
pub(crate) mod editing;
pub(crate) mod ema;
pub(crate) mod encode;
pub(crate) mod eval;
pub(crate) mod export;
pub(crate) mod info;
pub(crate) mod interpolate;
pub(crate) mod launch;
mod listing;
mod located;
pub(crate) mod manual;
mod measure;
pub(crate) mod metrics;
pub(crate) mod named_data;
pub(crate) mod new;
mod opening;
mod picture_data;
pub(crate) mod pictures;
mod ranks;
mod replay;
pub(crate) mod sample;
mod samples;
#[cfg(feature = "serve")]
pub(crate) mod serve;
pub(crate) mod show;
pub(crate) mod train;
mod unfinished;
pub(crate) mod validate;
