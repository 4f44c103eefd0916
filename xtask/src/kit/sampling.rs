//! Phase f: samples in one evaluation, 1, 16 and 256 at a time, and the first one from the start of the program.

use super::Session;
use super::report::Status;
use crate::bench::rival::Rival;
use crate::bench::table::median;
use crate::files;
use anyhow::Result;
use serde_json::json;
use std::process::Command;
use std::time::Instant;

const ROWS: [u32; 3] = [1, 16, 256];
const ROUNDS: usize = 15;
const COLD_STARTS: usize = 3;

pub(super) fn run(session: &mut Session<'_>) -> Result<Status> {
    let size = session.kit.size();
    warm(session, size)?;
    cold(session, size)?;
    Ok(Status::Done)
}

/// The program whose samples are timed.
fn sample(session: &Session<'_>, size: &str) -> Result<Command> {
    let mut command = session.kit.program("sample");
    command.args(["--size", size, "--device", &session.kit.device]);
    command.stderr(session.stderr()?);
    Ok(command)
}

fn warm(session: &mut Session<'_>, size: &str) -> Result<()> {
    let mut rival = Rival::start_until(session.deadline, "sample", sample(session, size)?)?;
    // Half of the time, the cold starts have the rest.
    let end = Instant::now() + session.left() / 2;
    let mut times = ROWS.map(|_| Vec::new());
    for round in 0..=ROUNDS {
        for (rows, times) in ROWS.iter().zip(&mut times) {
            let reply = rival.step(&format!("ours_{rows}"))?;
            if round > 0 {
                times.push(reply.ms);
            }
        }
        if round > 0 && Instant::now() > end {
            break;
        }
    }
    for (rows, times) in ROWS.into_iter().zip(times) {
        let ms = median(times);
        session.report.row(json!({
            "size": size, "what": format!("{rows} at a time"), "ms": ms,
            "samples_per_second": 1e3 * f64::from(rows) / ms,
        }))?;
    }
    Ok(())
}

fn cold(session: &mut Session<'_>, size: &str) -> Result<()> {
    let [proof, weights, first] = ["proof.safetensors", "weights.safetensors", "first.npz"]
        .map(|name| session.kit.out.join(name));
    let mut export = sample(session, size)?;
    export.arg("--export").arg(&proof);
    export.arg("--save").arg(&weights);
    session.finish(export)?;
    let mut cold = Vec::new();
    for _ in 0..COLD_STARTS {
        let mut command = session.kit.program("meanflow");
        command.arg("sample").arg(&weights);
        command.args(["--seeds", "0", "--class", "0", "--force"]);
        command.args(["--device", &session.kit.device]);
        command.arg("--out").arg(&first);
        let start = Instant::now();
        session.finish(command)?;
        cold.push(start.elapsed().as_secs_f64() * 1e3);
    }
    for file in [proof, weights, first] {
        files::remove(&file)?;
    }
    session.report.row(json!({
        "size": size, "what": "from the start of the program to a file", "ms": median(cold),
    }))
}
