//! Parts that are tests of the libraries, done more often.

use anyhow::Result;

use super::Part;
use crate::command;

/// Runs the tests of a part with this count.
pub(super) fn run(part: Part, count: usize) -> Result<()> {
    let tests: &[[&str; 3]] = match part {
        Part::Inputs => &[
            ["meanflow-data", "malformed", "damaged"],
            ["meanflow-train", "soak", "hostile"],
        ],
        Part::Injections => &[["meanflow-train", "soak", "injections"]],
        _ => &[["meanflow-train", "soak", "flat_memory"]],
    };
    for [package, test, filter] in tests {
        let line = format!(
            "test --release --package {package} --test {test} {filter} -- --show-output --test-threads 1"
        );
        command::succeed(
            command::cargo()
                .args(line.split(' '))
                .env("MEANFLOW_SOAK_COUNT", count.to_string()),
        )?;
    }
    println!("{part:?}: {count}");
    Ok(())
}
