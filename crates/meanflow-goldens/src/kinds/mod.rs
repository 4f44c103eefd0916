//! What is computed for each kind of golden file.

mod dit;
mod metrics;
mod optimizer;
mod sampling;
mod songunet;
mod step;
mod vae;

use meanflow_torch::TorchError;

use crate::{GoldenFile, Report, Setting};

/// Runs our side of one kind of golden, and compares.
type Check = fn(&GoldenFile, &Setting) -> Result<Report, TorchError>;

/// The kinds of golden by the beginning of their names.
const KINDS: [(&str, Check); 7] = [
    ("dit_official", dit::check),
    ("step_official", step::check),
    ("sampling", sampling::check),
    ("songunet_official", songunet::check),
    ("adamw_ema", optimizer::check),
    ("vae", vae::check),
    ("frechet", metrics::check),
];

/// Computes everything that the file holds results of, and compares.
pub(crate) fn check(file: &GoldenFile, setting: &Setting) -> Result<Report, TorchError> {
    let known = KINDS.iter().find(|(kind, _)| file.name().starts_with(kind));
    let Some((_, check)) = known else {
        let (name, names) = (file.name(), KINDS.map(|(kind, _)| kind).join(", "));
        return Err(file.problem(format!("\"{name}\" is of no known kind ({names})")));
    };
    check(file, setting)
}
