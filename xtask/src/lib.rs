//! Automation of the workspace: `cargo xtask COMMAND`, each command a file; and the program that runs the GPU kit's phases.

mod ablate;
mod bench;
mod command;
mod dist;
mod docs;
mod files;
mod gpu_kit;
mod interchange;
mod kit;
mod libtorch;
mod packages;
mod pages;
mod program;
mod progress;
mod python;
mod soak;
mod supply;
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
    /// Make the snapshot of known vulnerabilities anew, from a clone of RustSec's database.
    Advisories(supply::Advisories),
    /// Rerun the paper's ablations in miniature; writes docs/src/ablations.md.
    Ablate(ablate::Ablate),
    /// Measure: every rival in one session, alternating, medians.
    Bench(bench::Bench),
    /// Build an archive of the program with its libtorch, which runs where it is unpacked, and try it.
    Dist(dist::Dist),
    /// Write the pages of recipe keys and commands from the code, and build the book where mdbook is installed.
    Docs(docs::Docs),
    /// Build a folder that checks and measures a GPU on a machine without cargo, pip and network.
    GpuKit(gpu_kit::GpuKit),
    /// Draw from exported models in PyTorch and onnxruntime, and compare with what the program draws.
    Interchange(interchange::Interchange),
    /// Put libtorch where every cargo command of the workspace finds it.
    Libtorch(libtorch::Libtorch),
    /// Run the commands of the pages as a reader types them.
    Pages(pages::Pages),
    /// Kill, damage and double runs of the real program, which must end with the bytes of an undisturbed one; and long tests of
    /// the libraries.
    Soak(soak::Soak),
    /// Check everything: format, lints, tests, doctests, house rules.
    Test,
    /// Check the house rules alone.
    Tidy,
    /// Train a recipe: libtorch if missing, release build, training, samples.
    Train(train::Train),
}

/// `cargo xtask`.
pub fn xtask() -> ExitCode {
    ended(run(Cli::parse().task).map(|()| true))
}

/// The phases of the GPU kit, as `run.sh` starts them. It fails where a phase failed.
pub fn kit() -> ExitCode {
    ended(kit::run(kit::Kit::parse()))
}

/// Success where all went well, otherwise failure with the reasons.
fn ended(result: anyhow::Result<bool>) -> ExitCode {
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
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
        Task::Advisories(args) => supply::refresh(&args),
        Task::Ablate(args) => ablate::run(&args),
        Task::Bench(args) => bench::run(&args),
        Task::Dist(args) => dist::run(&args),
        Task::Docs(args) => docs::run(&args),
        Task::GpuKit(args) => gpu_kit::run(&args),
        Task::Interchange(args) => interchange::run(&args),
        Task::Libtorch(args) => libtorch::run(&args),
        Task::Pages(args) => pages::run(&args),
        Task::Soak(args) => soak::run(&args),
        Task::Test => test::run(),
        Task::Tidy => tidy::run(),
        Task::Train(args) => train::run(&args),
    }
}
