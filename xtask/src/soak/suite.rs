//! Parts that are tests of the libraries, done more often.

use anyhow::Result;

use super::Part;
use crate::{command, files, workspace};

/// Tests whose count is the full one in every run: package, target and filter.
const COUNTED: [&str; 10] = [
    "meanflow-train --lib crash_states",
    "meanflow-train --test resume earlier",
    "meanflow-data --lib order",
    "meanflow-data --test malformed fifty_thousand_damaged_pictures",
    "meanflow-data --test bombs fifty_bombs",
    "meanflow-torch --test weights five_hundred_files",
    "meanflow-torch --test weights pickles",
    "meanflow-eval --test frechet fifty_pairs",
    "xtask --lib sixty_archives",
    "xtask --lib thirty_answers",
];

/// Runs the tests of a part with this count.
pub(super) fn run(part: Part, count: usize) -> Result<()> {
    let tests: &[&str] = match part {
        Part::Inputs => &[
            "meanflow-data --test malformed damaged",
            "meanflow-train --test soak hostile",
        ],
        Part::Damages => &["meanflow-train --test soak damages"],
        Part::Injections => &["meanflow-train --test soak injections"],
        Part::Counted => &COUNTED,
        _ => &["meanflow-train --test soak flat_memory"],
    };
    let plots = workspace::target().join("soak");
    files::make_folder(&plots)?;
    for test in tests {
        let line = format!("test --release --package {test} -- --show-output --test-threads 1");
        let mut tests = command::cargo();
        tests.args(line.split(' '));
        // These have counts of their own.
        if part != Part::Counted {
            tests.env("MEANFLOW_SOAK_COUNT", count.to_string());
        }
        command::succeed(tests.env("MEANFLOW_SOAK_PLOTS", &plots))?;
    }
    println!("{part:?}: {count}");
    if part == Part::Memory {
        println!("drawn: {}/memory-*.svg", plots.display());
    }
    Ok(())
}
