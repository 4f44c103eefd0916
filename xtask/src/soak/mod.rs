//! `cargo xtask soak`: the real program is killed, damaged, doubled and signalled, and its libraries are given what is not finite
//! and what is no file of theirs, many times.

mod disks;
mod processes;
mod runs;
mod seeds;
mod server;
mod suite;

use std::time::Instant;

use anyhow::{Context, Result};
use clap::ValueEnum;

use crate::program;
use runs::Runs;

/// How much is done.
#[derive(clap::Args)]
pub(crate) struct Soak {
    /// The counts that every test of the workspace runs, in a few minutes; says how long the others would take
    #[arg(long)]
    pub(crate) small: bool,
    /// These parts alone
    #[arg(long, value_name = "PART,…", value_delimiter = ',')]
    pub(crate) only: Vec<Part>,
    /// Everything random follows from it
    #[arg(long, value_name = "SEED", default_value = "1")]
    pub(crate) seed: u64,
}

/// A part of the soak.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Part {
    /// SIGKILL at random moments of a run, several in a row
    Kills,
    /// SIGINT, SIGTERM, SIGHUP and SIGUSR1 likewise
    Signals,
    /// One bit turned in the newest checkpoint or the weights
    Flips,
    /// Such a file cut short
    Truncations,
    /// Two starts of one run at once
    Doubles,
    /// One of the four processes of a run, then one of the two that go on with it
    Processes,
    /// Runs on a disk that is too small
    Disks,
    /// Samples of the same seeds in groups of several sizes and orders
    Seeds,
    /// Requests to a server, malformed, slow and too many
    Server,
    /// Bits turned in checkpoints and weights, and a tenth as often their files cut short, by the library in one process
    Damages,
    /// NaN, infinities and huge numbers in random tensors at random steps
    Injections,
    /// Damaged files of every kind, each given to its parser
    Inputs,
    /// Steps and samples, during which memory must not grow
    Memory,
    /// The tests that always do all they can: files that do not fit, bombs, archives, answers of servers, saves on disks that fail
    Counted,
}

impl Part {
    /// How often: in every test, and in full.
    fn counts(self) -> [usize; 2] {
        match self {
            Self::Kills => [50, 1000],
            Self::Signals => [8, 100],
            Self::Flips => [20, 1000],
            Self::Truncations => [5, 100],
            Self::Doubles => [5, 100],
            Self::Processes => [2, 20],
            Self::Disks => [5, 50],
            Self::Seeds => [6, 1000],
            Self::Server => [3000, 100_000],
            Self::Damages => [1000, 10_000],
            Self::Injections => [60, 300],
            Self::Inputs => [500, 50_000],
            Self::Memory => [3000, 10_000],
            Self::Counted => [1, 1],
        }
    }

    /// Whether it runs the real program, beside an undisturbed run.
    fn needs_runs(self) -> bool {
        !matches!(
            self,
            Self::Damages | Self::Injections | Self::Inputs | Self::Memory | Self::Counted
        )
    }
}

pub(crate) fn run(args: &Soak) -> Result<()> {
    let all = Part::value_variants();
    // Every test of the workspace runs these with the small counts already.
    let wanted = |part: &Part| match args.only.as_slice() {
        [] => !args.small || part.needs_runs(),
        only => only.contains(part),
    };
    let parts: Vec<Part> = all.iter().copied().filter(wanted).collect();
    let scene = tempfile::tempdir().context("cannot make a folder to work in")?;
    let mut runs = None;
    if parts.iter().any(|part| part.needs_runs()) {
        program::build("--package meanflow-cli")?;
        let begun = Runs::begin(scene.path(), args.seed)?;
        println!(
            "seed {}; {} s an undisturbed run",
            args.seed,
            begun.seconds()
        );
        runs = Some(begun);
    }
    let mut estimate = 0.0;
    for part in parts {
        let [few, many] = part.counts();
        let count = if args.small { few } else { many };
        let begun = Instant::now();
        match &mut runs {
            Some(runs) if part.needs_runs() => disturb(part, count, runs)?,
            _ => suite::run(part, count)?,
        }
        let seconds = begun.elapsed().as_secs_f64();
        let full = seconds * many as f64 / count as f64;
        estimate += full;
        println!(
            "  {seconds:.0} s; {many} would take about {:.0} min",
            full / 60.0
        );
    }
    println!(
        "all of it in full: about {:.1} h on this machine",
        estimate / 3600.0
    );
    Ok(())
}

fn disturb(part: Part, count: usize, runs: &mut Runs) -> Result<()> {
    match part {
        Part::Kills => runs.kills("SIGKILL", count, &["KILL"]),
        Part::Signals => runs.kills("signals", count, &["INT", "TERM", "HUP", "USR1"]),
        Part::Flips => runs.damage("bit flips", count, |bytes, random| {
            let bit = random.usize(..8 * bytes.len());
            bytes[bit / 8] ^= 1 << (bit % 8);
        }),
        Part::Truncations => runs.damage("truncations", count, |bytes, random| {
            bytes.truncate(random.usize(..bytes.len()));
        }),
        Part::Doubles => runs.doubles(count),
        Part::Server => server::run(runs, count),
        Part::Processes => processes::run(runs, count),
        Part::Disks => disks::run(runs, count),
        _ => seeds::run(runs, count),
    }
}
