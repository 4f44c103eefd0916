//! Phase b: `meanflow check device` on the goldens beside it, and the CUDA tests of the workspace where the kit has them.

use super::Session;
use super::report::Status;
use crate::files;
use anyhow::Result;
use serde_json::{Value, json};
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;

pub(super) fn run(session: &mut Session<'_>) -> Result<Status> {
    let kit = session.kit;
    let mut check = kit.program("meanflow");
    check.args(["check", "device", "--device", &kit.device, "--json"]);
    check.arg("--goldens").arg(kit.folder.join("goldens"));
    let status = session.rows_of(check)?;
    let mut failures: Vec<String> = session.report.rows().iter().filter_map(failure).collect();
    for program in tests(session)? {
        if let Status::Failed(reason) = tested(session, &program)? {
            failures.push(reason);
        }
    }
    if failures.is_empty() || status == Status::CutOff {
        return Ok(status);
    }
    let (count, first) = (failures.len(), &failures[0]);
    Ok(Status::Failed(format!("{count} failed, first {first}")))
}

fn failure(row: &Value) -> Option<String> {
    (row["verdict"] == "failed").then(|| row["name"].as_str().unwrap_or_default().to_owned())
}

/// The test programs of the kit. Without a device they prove themselves on the CPU.
fn tests(session: &Session<'_>) -> Result<Vec<PathBuf>> {
    match session.kit.folder.join("tests") {
        folder if folder.is_dir() => files::entries(&folder),
        _ => Ok(Vec::new()),
    }
}

/// Runs a test program; every test is a row, and what else it says goes into the log.
fn tested(session: &mut Session<'_>, program: &PathBuf) -> Result<Status> {
    let mut command = session.kit.quiet(Command::new(program));
    command.arg("--test-threads=1");
    command.env("MEANFLOW_TEST_DEVICE", &session.kit.device);
    command.env("MEANFLOW_GOLDENS", session.kit.folder.join("goldens"));
    let mut log = session.stderr()?;
    session.hear(command, |report, line| {
        writeln!(log, "{line}")?;
        let test = line.strip_prefix("test ");
        let Some((name, end)) = test.and_then(|rest| rest.rsplit_once(" ... ")) else {
            return Ok(());
        };
        let verdict = if end == "ok" { "passed" } else { "failed" };
        report.row(json!({ "name": format!("test {}", name.trim_end()), "verdict": verdict }))
    })
}
