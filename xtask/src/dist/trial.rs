//! The archive, unpacked elsewhere: the program does its work there with an empty environment.

use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::command;

/// A folder that breaks whatever forgets to quote a path.
const ELSEWHERE: &str = "a path with spaces";

/// What is tried, in this order, in a folder beside.
const TRIALS: [&[&str]; 5] = [
    &["doctor"],
    &[
        "train",
        "--preset",
        "digits",
        "--set",
        "training.steps=6",
        "--set",
        "training.checkpoint_every=3",
        "--set",
        "training.sample_every=6",
        "--out",
        "a run",
    ],
    &["info", "a run"],
    &["sample", "a run", "--seeds", "0-15", "--out", "grid.png"],
    &["export", "hf", "a run", "--out", "exported"],
];

/// Unpacks, moves and runs.
pub(super) fn run(archive: &Path, name: &str) -> Result<()> {
    let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
    let mut tar = Command::new("tar");
    command::succeed(tar.arg("-xzf").arg(archive).arg("-C").arg(folder.path()))?;
    let moved = folder.path().join(ELSEWHERE);
    meanflow_files::rename(&folder.path().join(name), &moved)
        .context("cannot move what was unpacked")?;
    let (program, work) = (moved.join("bin/meanflow"), folder.path().join("work"));
    fs::create_dir(&work).context("cannot make a folder")?;
    for trial in TRIALS {
        let mut meanflow = Command::new(&program);
        command::answer(meanflow.args(trial).env_clear().current_dir(&work))?;
        println!("ran: meanflow {}", trial.join(" "));
    }
    for file in ["a run/model.safetensors", "grid.png", "exported/README.md"] {
        ensure!(work.join(file).is_file(), "expected {file}, got nothing");
    }
    Ok(())
}
