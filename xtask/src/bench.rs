//! `cargo xtask bench QUESTION`: rivals in several processes, timed alternately, medians in one table.

mod rival;
mod table;

use crate::{command, libtorch, python, workspace};
use anyhow::{Context, Result, ensure};
use rival::{Reply, Rival};
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use table::Row;

/// What to measure.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    question: Question,
}

/// The questions; `benches/README.md` explains each.
#[derive(clap::Subcommand)]
enum Question {
    /// What does a MeanFlow training step cost beside a plain flow-matching step, here and in PyTorch?
    Step(StepArgs),
}

#[derive(clap::Args)]
struct StepArgs {
    /// Where to run: cpu, cuda.
    #[arg(long, default_value = "cpu")]
    device: String,
    /// Sizes to measure; may be given several times.
    #[arg(long = "size", default_values = ["digits", "s4"])]
    sizes: Vec<String>,
    /// Timed steps of each variant.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Threads of each rival on the CPU [default: all].
    #[arg(long)]
    threads: Option<usize>,
    /// A Python that has torch 2.11.0 [default: one made for it in the user's cache folder].
    #[arg(long, value_name = "PATH")]
    python: Option<PathBuf>,
    /// Also write the rows to a file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// The variants of this project, of which the first is what the others are divided by.
const OURS: [&str; 3] = ["plain", "dual", "forward_ad"];
/// The variants of the PyTorch script.
const PEERS: [&str; 2] = ["pytorch_plain", "pytorch_func_jvp"];

/// Answers the question.
pub(crate) fn run(args: &Args) -> Result<()> {
    match &args.question {
        Question::Step(args) => step(args),
    }
}

fn step(args: &StepArgs) -> Result<()> {
    command::require_cxx()?;
    libtorch::ensure()?;
    let python = args
        .python
        .clone()
        .map_or_else(|| python::PEERS.python(), Ok)?;
    let mut build = command::cargo();
    command::succeed(build.args([
        "build",
        "--release",
        "--package",
        "benches",
        "--bin",
        "step",
    ]))?;
    let ours = workspace::target().join("release/step");
    let script = workspace::root().join("benches/peers/step.py");
    let mut rows = Vec::new();
    for size in &args.sizes {
        let start = |mut command: Command, name: &str| {
            command.args(rival_args(args, size));
            Rival::start(name, command)
        };
        let mut rivals = [
            (start(Command::new(&ours), "benches/step")?, OURS.as_slice()),
            (start(with_script(&python, &script), "step.py")?, &PEERS),
        ];
        rows.extend(measure(size, args.rounds, &mut rivals)?);
    }
    println!("{}", table::text(&rows));
    if let Some(file) = &args.json {
        let text = serde_json::to_string_pretty(&rows)? + "\n";
        fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(())
}

fn with_script(python: &Path, script: &Path) -> Command {
    let mut command = Command::new(python);
    command.arg(script);
    command
}

fn rival_args(args: &StepArgs, size: &str) -> Vec<OsString> {
    let threads = args
        .threads
        .or_else(|| std::thread::available_parallelism().ok().map(usize::from))
        .unwrap_or(1)
        .to_string();
    let words = [
        "--size",
        size,
        "--device",
        &args.device,
        "--threads",
        &threads,
    ];
    words.map(OsString::from).to_vec()
}

/// Runs every variant once a round; one row for each, the first being the measure of the others.
fn measure(size: &str, rounds: u32, rivals: &mut [(Rival, &[&str])]) -> Result<Vec<Row>> {
    let mut replies: Vec<(&str, Vec<Reply>)> = Vec::new();
    for round in 1..=rounds {
        eprintln!("{size}: round {round} of {rounds}");
        for (rival, variants) in rivals.iter_mut() {
            for &variant in *variants {
                let reply = rival.step(variant)?;
                match replies.iter_mut().find(|(name, _)| *name == variant) {
                    Some((_, list)) => list.push(reply),
                    None => replies.push((variant, vec![reply])),
                }
            }
        }
    }
    ensure!(!replies.is_empty(), "there is nothing to measure");
    Ok(table::rows(size, &replies))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rivals_alternate_and_end_in_rows() {
        let journal = tempfile::NamedTempFile::new().unwrap();
        let mut rivals = [("a", ["plain", "dual"].as_slice()), ("b", &["peer"])]
            .map(|(name, variants)| (rival::fake(name, journal.path()), variants));
        let rows = measure("digits", 3, &mut rivals).unwrap();
        let names: Vec<&str> = rows.iter().map(|row| row.variant.as_str()).collect();
        assert_eq!(names, ["plain", "dual", "peer"]);
        let order = fs::read_to_string(journal.path()).unwrap();
        assert_eq!(
            order.replace('\n', " ").trim(),
            ["plain dual peer"; 3].join(" ")
        );
    }
}
