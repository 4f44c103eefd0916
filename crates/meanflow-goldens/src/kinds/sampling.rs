//! Goldens of sampling: given noise and labels, over given times.

use meanflow_torch::{TorchError, sampler};
use serde::Deserialize;

use super::dit::OfficialDit;
use crate::{Computed, GoldenFile, Report, Setting, Tolerance};

#[derive(Deserialize)]
struct Config {
    net: OfficialDit,
}

pub(super) fn check(file: &GoldenFile, setting: &Setting) -> Result<Report, TorchError> {
    let model = file.config::<Config>()?.net.load(file, setting)?;
    let noise = file.picture("in/noise", setting)?;
    let labels = file.integers("in/y")?;
    let mut results = Vec::new();
    for list in file.below("in/times_") {
        let grid = file.numbers(&format!("in/times_{list}"))?;
        let x = sampler::from_noise(&model, &noise, Some(&labels), &grid)?;
        results.push(Computed::picture(
            &format!("out/x_{list}"),
            &x,
            Tolerance::OUTPUT,
        ));
    }
    file.report(&results, Vec::new(), |name| name.starts_with("out/"))
}
