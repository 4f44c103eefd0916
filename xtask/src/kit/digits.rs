//! Phase c: the digits are trained on the device, and what was learnt is judged.

use super::report::Status;
use super::{Kit, Session};
use crate::files;
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

/// Steps of the recipe, with which its accuracy is known.
const STEPS: u32 = 6000;
/// On a CPU, where only the way is checked: steps a minute of the whole run.
const STEPS_OF_CPU: f64 = 20.0;

pub(super) fn run(session: &mut Session<'_>) -> Result<Status> {
    let kit = session.kit;
    let steps = if kit.is_cpu() {
        ((STEPS_OF_CPU * kit.minutes).ceil() as u32).clamp(2, STEPS)
    } else {
        STEPS
    };
    let run = kit.out.join("digits");
    // Of an earlier report in this folder, with which the training would go on.
    files::remove(&run)?;
    let train = training(kit, steps, &run);
    let start = Instant::now();
    let status = session.rows_of(train)?;
    if status != Status::Done {
        return Ok(status);
    }
    let seconds = start.elapsed().as_secs_f64();
    let mut judge = kit.program("measure");
    judge.args(["digits", "--device", &kit.device]);
    judge.args(["--samples", if kit.is_cpu() { "200" } else { "1797" }]);
    judge.arg(run.join("model.safetensors"));
    let status = session.rows_of(judge)?;
    session.report.extend_last_row(json!({
        "steps": steps, "seconds": seconds, "ms_per_step": pace(&run.join("metrics.jsonl")),
    }))?;
    picture(session, &run)?;
    if steps < STEPS {
        session.report.remark(format!(
            "{steps} of {STEPS} steps: the accuracy is that of a training that has just begun."
        ))?;
    } else {
        session
            .report
            .remark("Expected: a class accuracy of at least 0.97.")?;
    }
    Ok(status)
}

/// The training of the recipe, into `run`.
fn training(kit: &Kit, steps: u32, run: &Path) -> Command {
    let mut train = kit.program("meanflow");
    train
        .arg("train")
        .arg(kit.folder.join("configs/digits.toml"));
    train.args(["--device", &kit.device]).arg("--out").arg(run);
    for (key, value) in [
        ("steps", steps),
        ("checkpoint_every", steps),
        ("sample_every", steps),
        ("log_every", (steps / 20).max(1)),
    ] {
        train.args(["--set", &format!("training.{key}={value}")]);
    }
    if !kit.is_cpu() {
        // The way for a device: microbatches are for threads, and a small step would wait for its launches.
        for setting in [
            "training.microbatches=1",
            "compute.async_metrics=true",
            "compute.cuda_graph=true",
        ] {
            train.args(["--set", setting]);
        }
    }
    train
}

/// Milliseconds a step between the middle record of a run and its last.
fn pace(metrics: &Path) -> Option<f64> {
    let text = fs::read_to_string(metrics).ok()?;
    let records: Vec<Value> = text
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect();
    let (one, other) = (records.get(records.len() / 2)?, records.last()?);
    let apart = |key: &str| Some(other[key].as_f64()? - one[key].as_f64()?);
    let steps = apart("step").filter(|steps| *steps > 0.0)?;
    Some(1e3 * apart("seconds")? / steps)
}

/// The last picture of the run, beside the report.
fn picture(session: &mut Session<'_>, run: &Path) -> Result<()> {
    let pictures = files::entries(&run.join("samples"))?;
    let last = pictures.last().context("the run drew no picture")?;
    files::copy(last, &session.kit.out.join("digits.png"))?;
    session
        .report
        .remark("![Samples, by one evaluation and by two](digits.png)")
}
