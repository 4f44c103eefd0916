//! Golden files: what official implementations computed, against what we compute from the same weights and draws.
//!
//! A golden is `NAME.safetensors` with parameters, inputs and outputs, and `NAME.json` beside it with the kind and the
//! configuration. [`check`] runs this crate on the inputs, in any type, on any device and through any
//! [`JvpMethod`], and says for every output how far off it is.

mod compare;
mod dit;
mod file;
mod optimizer;
mod sampling;
mod songunet;
mod step;
mod vae;

use std::path::Path;

use tch::{Device, Kind};

pub use compare::{Comparison, Report, Tolerance};
pub use file::{Computed, GoldenFile};

use crate::{JvpMethod, TorchError};

/// How to run our side.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// Where.
    pub device: Device,
    /// In which type: [`Kind::Float`] or [`Kind::Double`].
    pub kind: Kind,
    /// Through which route to `du/dt`.
    pub engine: JvpMethod,
}

/// Runs our side of one kind of golden, and compares.
pub type Check = fn(&GoldenFile, &Setting) -> Result<Report, TorchError>;

/// The kinds of golden by the beginning of their names.
const KINDS: [(&str, Check); 6] = [
    ("dit_official", dit::check),
    ("step_official", step::check),
    ("sampling", sampling::check),
    ("songunet_official", songunet::check),
    ("adamw_ema", optimizer::check),
    ("vae", vae::check),
];

/// Computes everything that the golden `path` (`….safetensors`) holds results of, and compares.
///
/// # Errors
/// If the file or its `.json` cannot be read, is of no known kind, or does not hold what its kind needs.
pub fn check(path: &Path, setting: &Setting) -> Result<Report, TorchError> {
    check_among(path, setting, &[])
}

/// The same, knowing more kinds by the beginning of their names: those of crates above this one.
///
/// # Errors
/// As [`check`].
pub fn check_among(
    path: &Path,
    setting: &Setting,
    more: &[(&str, Check)],
) -> Result<Report, TorchError> {
    let file = GoldenFile::read(path)?;
    let kinds = KINDS.iter().chain(more);
    let known = kinds
        .clone()
        .find(|(kind, _)| file.name().starts_with(kind));
    let Some((_, check)) = known else {
        let names: Vec<&str> = kinds.map(|(kind, _)| *kind).collect();
        let (name, names) = (file.name(), names.join(", "));
        return Err(file.problem(format!("\"{name}\" is of no known kind ({names})")));
    };
    check(&file, setting)
}
