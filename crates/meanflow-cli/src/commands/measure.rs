//! What a run takes on this machine, by three of its steps.

use std::time::Instant;

use anyhow::Context;
use meanflow_torch::{Device, memory};
use meanflow_train::{TrainConfig, Trainer};

use crate::progress::Count;

/// Steps that are done; the first takes memory and compiles, and does not count.
const STEPS: usize = 3;

/// What the steps took.
pub(super) struct Measured {
    /// Seconds a step.
    pub(super) step: f64,
    /// Seconds of all steps of the run; samples and checkpoints come to them.
    pub(super) run: f64,
    /// The most memory of the process, in bytes, where the system says it.
    pub(super) memory: Option<u64>,
}

/// Does the first steps of a run in memory alone.
pub(super) fn measure(config: &TrainConfig, device: Device) -> anyhow::Result<Measured> {
    let data = config.data.load(config.seed)?;
    let progress = Count::named("steps", STEPS);
    let (seconds, memory) = memory::peak(|| {
        let mut trainer = Trainer::new(config.clone(), data, device)?;
        (0..STEPS)
            .map(|_| {
                let start = Instant::now();
                trainer.step()?;
                progress.add(1);
                Ok(start.elapsed().as_secs_f64())
            })
            .collect::<anyhow::Result<Vec<f64>>>()
    });
    progress.finish();
    let seconds = seconds.context("--measure")?;
    let later = &seconds[1..];
    let step = later.iter().sum::<f64>() / later.len() as f64;
    Ok(Measured {
        step,
        run: step * config.training.steps.get() as f64,
        memory,
    })
}
