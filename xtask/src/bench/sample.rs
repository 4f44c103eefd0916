//! `cargo xtask bench sample`: samples in one evaluation, here and in PyTorch, and how long the first one takes.

use super::measure;
use super::options::{Guidance, Options, Programs};
use super::rival::{Reply, Rival};
use super::table::{median, shown};
use crate::{command, program};
use anyhow::{Context, Result, ensure};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

#[derive(clap::Args)]
pub(crate) struct Sample {
    /// Sizes of benches/sizes.json; may be given several times.
    #[arg(long = "size", default_values = ["digits", "s4"])]
    sizes: Vec<String>,
    /// Samples at a time; may be given several times.
    #[arg(long, default_values = ["1", "16", "256"])]
    rows: Vec<u32>,
    #[command(flatten)]
    options: Options,
}

/// This project.
const OURS: &str = "ours";
/// The variants in PyTorch.
const PEERS: [&str; 2] = ["pytorch", "pytorch_compiled"];
/// Neither guidance nor another argument of training is asked for.
const GUIDANCE: Guidance = Guidance::None;
/// All compute in f32: the bound of the losses holds for the samples too.
const BOUND: f64 = 3e-5;

/// One variant with so many samples at a time; none at a time: from the start of a program to the end of its first.
#[derive(Debug, PartialEq, Serialize)]
struct Row {
    size: String,
    variant: String,
    rows: u32,
    /// Median wall time, in milliseconds.
    median_ms: f64,
    /// Samples a second.
    rate: f64,
}

pub(super) fn run(args: &Sample) -> Result<()> {
    let meanflow = program::build("--package meanflow-cli")?.join("meanflow");
    let programs = args.options.programs("sample")?;
    let mut rows = Vec::new();
    for size in &args.sizes {
        rows.extend(compare(args, &programs, &meanflow, size)?);
    }
    println!("{}", text(&rows));
    args.options.write(&rows)
}

fn compare(args: &Sample, programs: &Programs, meanflow: &Path, size: &str) -> Result<Vec<Row>> {
    let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
    let [proof, weights] =
        ["proof", "weights"].map(|name| folder.path().join(format!("{name}.safetensors")));
    let mut export = args.options.ours(programs, size, GUIDANCE);
    export.arg("--export").arg(&proof);
    command::succeed(export.arg("--save").arg(&weights))?;
    let mut found = rows(size, &warm(args, programs, size, &proof)?);
    let first = first(&args.options, programs, meanflow, size, &weights);
    let rounds = args.options.rounds.min(COLD);
    found.extend(cold(size, rounds, first, folder.path())?);
    Ok(found)
}

/// The programs that draw one sample from a file of weights and end, on the same device.
fn first(
    options: &Options,
    programs: &Programs,
    meanflow: &Path,
    size: &str,
    weights: &Path,
) -> [Command; 2] {
    let mut ours = Command::new(meanflow);
    ours.arg("sample").arg(weights);
    ours.args(["--seeds", "0", "--class", "0", "--force"]);
    ours.args(["--device", &options.device]);
    let mut script = options.script(programs, "sample.py", size, GUIDANCE);
    script.arg("--first").arg(weights);
    [ours, script]
}

/// Every kind with every number of rows, in the order asked for. Each kind is a program of its own: else the first sample of a
/// round would find the processor cold, and that of the next kind find it warm.
fn warm(
    args: &Sample,
    programs: &Programs,
    size: &str,
    proof: &Path,
) -> Result<Vec<(String, Vec<Reply>)>> {
    let named = |kind| -> Vec<String> {
        let name = |rows| format!("{kind}_{rows}");
        args.rows.iter().map(name).collect()
    };
    let command = args.options.ours(programs, size, GUIDANCE);
    let mut rivals = vec![(Rival::start("benches/sample", command)?, named(OURS))];
    for kind in PEERS {
        let (about, names) = ((size, GUIDANCE), named(kind));
        let mut peer = args.options.peer(programs, "sample.py", about, &names)?;
        prove(&mut peer, proof, size)?;
        rivals.push((peer, names));
    }
    measure(size, args.options.rounds, &mut rivals)
}

/// Cold starts of each program: a median of five is near enough for what differs by a factor.
const COLD: u32 = 5;

/// Every program by turns, from its start to its end, with one sample in a file between.
fn cold(size: &str, rounds: u32, mut programs: [Command; 2], folder: &Path) -> Result<Vec<Row>> {
    let mut times = [Vec::new(), Vec::new()];
    for command in &mut programs {
        command.arg("--out").arg(folder.join("first.npz"));
    }
    for _ in 0..rounds {
        for (command, times) in programs.iter_mut().zip(&mut times) {
            let start = Instant::now();
            command::answer(command)?;
            times.push(start.elapsed().as_secs_f64() * 1e3);
        }
    }
    let row = |(variant, times)| row(size, variant, 0, median(times));
    Ok([OURS, PEERS[0]].into_iter().zip(times).map(row).collect())
}

fn prove(peer: &mut Rival, file: &Path, size: &str) -> Result<()> {
    let errors: BTreeMap<String, f64> = peer.ask(&format!("prove {}", file.display()))?;
    for (variant, error) in errors {
        println!(
            "{size}: {variant} is {error:.1e} away from ours, with the same weights and noise"
        );
        // So written that what is not a number does not hold.
        ensure!(
            error < BOUND,
            "{variant} draws other samples: expected less than {BOUND:e}"
        );
    }
    Ok(())
}

fn rows(size: &str, replies: &[(String, Vec<Reply>)]) -> Vec<Row> {
    let row = |(name, list): &(String, Vec<Reply>)| {
        let (variant, rows) = name.rsplit_once('_')?;
        let ms = median(list.iter().map(|reply| reply.ms).collect());
        Some(row(size, variant, rows.parse().ok()?, ms))
    };
    let mut rows: Vec<Row> = replies.iter().filter_map(row).collect();
    rows.sort_by_key(|row| row.rows);
    rows
}

fn row(size: &str, variant: &str, rows: u32, median_ms: f64) -> Row {
    Row {
        size: size.to_owned(),
        variant: variant.to_owned(),
        rows,
        median_ms,
        rate: f64::from(rows.max(1)) * 1e3 / median_ms,
    }
}

/// The rows for people; times are also divided by ours of the same size and number.
fn text(rows: &[Row]) -> String {
    let mut text = format!(
        "{:<10} {:>10} {:<17} {:>10} {:>7} {:>10}",
        "size", "at a time", "variant", "median ms", "÷ ours", "samples/s"
    );
    for row in rows {
        let is_ours = |other: &&Row| {
            (&other.size, other.rows, &*other.variant) == (&row.size, row.rows, OURS)
        };
        let ours = rows.iter().find(is_ours);
        let at_a_time = if row.rows == 0 {
            "cold start".to_owned()
        } else {
            row.rows.to_string()
        };
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            "\n{:<10} {at_a_time:>10} {:<17} {:>10.2} {:>7} {:>10.2}",
            row.size,
            row.variant,
            row.median_ms,
            shown(ours.map(|ours| row.median_ms / ours.median_ms), 2),
            row.rate
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[test]
    fn rows_are_compared_at_the_same_number() {
        let reply = |ms| Reply {
            ms,
            peak_mib: None,
            units: None,
        };
        let replies = [
            ("ours_1", vec![reply(2.0)]),
            ("ours_16", vec![reply(8.0)]),
            (
                "pytorch_compiled_1",
                vec![reply(3.0), reply(5.0), reply(90.0)],
            ),
        ]
        .map(|(name, list)| (name.to_owned(), list));
        let rows = rows("digits", &replies);
        let found: Vec<_> = rows
            .iter()
            .map(|row| (&*row.variant, row.rows, row.rate))
            .collect();
        assert_eq!(
            found,
            [
                ("ours", 1, 500.0),
                ("pytorch_compiled", 1, 200.0),
                ("ours", 16, 2000.0)
            ]
        );
        assert!(text(&rows).lines().nth(2).unwrap().contains("2.50"));
    }

    #[test]
    fn first_samples_are_drawn_on_the_device_that_was_asked_for() {
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            sample: Sample,
        }
        let programs = Programs {
            ours: "ours".into(),
            python: "python".into(),
        };
        for device in ["cpu", "cuda"] {
            let line = Line::parse_from(["sample", "--device", device]);
            let [meanflow, weights] = ["meanflow", "w.safetensors"].map(Path::new);
            for command in first(&line.sample.options, &programs, meanflow, "s4", weights) {
                let told: Vec<_> = command.get_args().collect();
                let named: Vec<_> = told
                    .windows(2)
                    .filter(|pair| pair[0] == "--device")
                    .collect();
                assert_eq!(named, [["--device", device]], "{command:?}");
            }
        }
    }

    #[test]
    fn a_program_that_fails_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let programs = || ["true", "false"].map(Command::new);
        let error = cold("digits", 1, programs(), folder.path()).unwrap_err();
        assert!(error.to_string().contains("false"), "{error}");
    }
}
