//! Automation of the workspace: `cargo xtask COMMAND`. Each command is a file.

mod ablate;
mod bench;
mod command;
mod libtorch;
mod progress;
mod python;
mod soak;
mod test;
mod tidy;
mod train;
mod workspace;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Automation of the workspace.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

/// What can be asked for.
#[derive(Subcommand)]
enum Task {
    /// Rerun the paper's ablations in miniature; writes docs/src/ablations.md.
    Ablate(ablate::Args),
    /// Measure: every rival in one session, alternating, medians.
    Bench(bench::Args),
    /// Put libtorch where every cargo command of the workspace finds it.
    Libtorch(libtorch::Args),
    /// Kill, damage and double runs of the real program; each must end with the bytes of an undisturbed one.
    Soak(soak::Args),
    /// Check everything: format, lints, tests, doctests, house rules.
    Test,
    /// Check the house rules alone.
    Tidy,
    /// Train a recipe: libtorch if missing, release build, training, samples.
    Train(train::Args),
}

fn main() -> ExitCode {
    match run(Cli::parse().task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            for cause in error.chain().skip(1) {
                eprintln!("  because: {cause}");
            }
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> anyhow::Result<()> {
    match task {
        Task::Ablate(args) => ablate::run(&args),
        Task::Bench(args) => bench::run(&args),
        Task::Libtorch(args) => libtorch::run(&args),
        Task::Soak(args) => soak::run(&args),
        Task::Test => test::run(),
        Task::Tidy => tidy::run(),
        Task::Train(args) => train::run(&args),
    }
}
