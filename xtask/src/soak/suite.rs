//! Parts that are tests of the libraries, done more often.

use std::fs;

use anyhow::{Context, Result};

use super::Part;
use crate::{command, workspace};

/// Runs the tests of a part with this count.
pub(super) fn run(part: Part, count: usize) -> Result<()> {
    let tests: &[[&str; 3]] = match part {
        Part::Inputs => &[
            ["meanflow-data", "malformed", "damaged"],
            ["meanflow-train", "soak", "hostile"],
        ],
        Part::Damages => &[["meanflow-train", "soak", "damages"]],
        Part::Injections => &[["meanflow-train", "soak", "injections"]],
        _ => &[["meanflow-train", "soak", "flat_memory"]],
    };
    let plots = workspace::target().join("soak");
    fs::create_dir_all(&plots).with_context(|| format!("cannot make {}", plots.display()))?;
    for [package, test, filter] in tests {
        let line = format!(
            "test --release --package {package} --test {test} {filter} -- --show-output --test-threads 1"
        );
        command::succeed(
            command::cargo()
                .args(line.split(' '))
                .env("MEANFLOW_SOAK_COUNT", count.to_string())
                .env("MEANFLOW_SOAK_PLOTS", &plots),
        )?;
    }
    println!("{part:?}: {count}");
    if part == Part::Memory {
        println!("drawn: {}/memory-*.svg", plots.display());
    }
    Ok(())
}
