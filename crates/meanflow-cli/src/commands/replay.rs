//! `meanflow train --replay`: a step at which training went astray, done again and shown.

use std::path::Path;

use meanflow_train::{CrashRow, CrashStep, Replay, replay};
use serde_json::json;

use crate::commands::opening::open_device;
use crate::options::Compute;
use crate::output::{is_json, say};

/// Steps, and rows of the last step, that are shown.
const SHOWN: usize = 10;

/// Does the steps of a crash bundle again; 1 where a number is not the one that the run kept.
pub(crate) fn run(bundle: &Path, compute: &Compute) -> anyhow::Result<u8> {
    let device = open_device(compute)?;
    let replay = replay(bundle, device)?;
    if is_json() {
        let report = json!({
            "bundle": replay.bundle, "steps": replay.steps, "rows": replay.rows, "broken": replay.broken,
            "differs_at": replay.differs_at,
        });
        say(format_args!("{report:#}"));
        return Ok(u8::from(replay.differs_at.is_some()));
    }
    print_steps(&replay);
    print_rows(&replay);
    if let Some(first) = replay.broken.first() {
        let count = replay.broken.len();
        say(format_args!(
            "parameters with NaN or infinity after it: {count}, the first is {first}"
        ));
    }
    say(format_args!("the run said: {}", replay.bundle.reason));
    Ok(verdict(&replay))
}

fn verdict(replay: &Replay) -> u8 {
    let Some(step) = replay.differs_at else {
        say("every number is the one that the run kept, bit for bit");
        return 0;
    };
    say(format_args!(
        "the numbers of step {step} are not those that the run kept: was it another device, or another number of threads?"
    ));
    if let Some(then) = replay.bundle.steps.iter().find(|one| one.step == step) {
        say(format_args!("they were:\n{}", line_of(then)));
    }
    1
}

fn print_steps(replay: &Replay) {
    let bundle = &replay.bundle;
    let from = match &bundle.start.checkpoint {
        Some(path) => path.display().to_string(),
        None => "the beginning".to_owned(),
    };
    say(format_args!(
        "seed {}, from {from} to step {}; steps see data {} steps ahead",
        bundle.seed, bundle.step, bundle.data_offset
    ));
    say(format_args!(
        "{:>9} {:>11} {:>13} {:>13} {:>15}",
        "step", "lr", "loss", "grad norm", "largest weight"
    ));
    let skipped = replay.steps.len().saturating_sub(SHOWN);
    for step in &replay.steps[skipped..] {
        say(line_of(step));
    }
}

fn line_of(step: &CrashStep) -> String {
    format!(
        "{:>9} {:>11.4e} {:>13.6e} {:>13.6e} {:>15.6e}",
        step.step, step.lr, step.loss, step.grad_norm, step.largest_weight
    )
}

/// The rows that are not finite, then those of the largest losses.
fn print_rows(replay: &Replay) {
    let mut rows: Vec<&CrashRow> = replay.rows.iter().collect();
    let size = |row: &CrashRow| {
        if row.v_loss.is_nan() {
            f64::INFINITY
        } else {
            row.v_loss
        }
    };
    rows.sort_by(|one, other| size(other).total_cmp(&size(one)));
    let bad = rows.iter().filter(|row| !row.v_loss.is_finite()).count();
    say(format_args!(
        "rows of step {}: {}, of which {bad} are not finite; those of the largest ‖u−v‖²:",
        replay.bundle.step,
        rows.len()
    ));
    say(format_args!(
        "{:>9} {:>7} {:>9} {:>9} {:>13}",
        "sample", "class", "r", "t", "‖u−v‖²"
    ));
    for row in rows.iter().take(SHOWN) {
        let class = match row.label {
            Some(_) if row.dropped => "dropped".to_owned(),
            Some(label) => label.to_string(),
            None => "–".to_owned(),
        };
        say(format_args!(
            "{:>9} {class:>7} {:>9.6} {:>9.6} {:>13.6e}",
            row.sample, row.r, row.t, row.v_loss
        ));
    }
}
