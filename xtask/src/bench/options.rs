//! What every question of rivals is asked with, and how its rivals are started.

use super::rival::Rival;
use crate::{files, program, python, workspace};
use anyhow::Result;
use serde::{Deserialize, Serialize};
use std::borrow::Borrow;
use std::path::PathBuf;
use std::process::Command;

/// How to measure.
#[derive(clap::Args)]
pub(super) struct Options {
    /// Where to run: cpu, cuda.
    #[arg(long, default_value = "cpu")]
    pub device: String,
    /// Timed steps of each variant.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    pub rounds: u32,
    /// Threads of each rival on the CPU [default: all].
    #[arg(long)]
    threads: Option<usize>,
    /// Rows of a batch [default: those of benches/sizes.json].
    #[arg(long)]
    batch: Option<usize>,
    /// A Python that has the packages of the peers [default: one made for it in the user's cache folder].
    #[arg(long, value_name = "PATH")]
    python: Option<PathBuf>,
    /// Also write the rows to a file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Guidance of the target; with any, the effective scale is 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Guidance {
    /// None.
    None,
    /// ω = 2, κ = 0.
    Kappa0,
    /// ω = 1, κ = ½.
    Kappa,
}

impl Guidance {
    /// Its name on command lines.
    pub(super) fn name(self) -> String {
        format!("{self:?}").to_lowercase()
    }
}

/// The programs that take part.
pub(super) struct Programs {
    pub ours: PathBuf,
    pub python: PathBuf,
}

impl Options {
    /// Builds ours, and finds or makes the Python of the peers.
    pub(super) fn programs(&self, ours: &str) -> Result<Programs> {
        let programs = program::build(&format!("--package benches --bin {ours}"))?;
        Ok(Programs {
            ours: programs.join(ours),
            python: python::PEERS.python(self.python.as_deref())?,
        })
    }

    /// The command of ours.
    pub(super) fn ours(&self, programs: &Programs, size: &str, guidance: Guidance) -> Command {
        self.told(Command::new(&programs.ours), size, guidance)
    }

    /// A script of benches/peers that has started, for these variants.
    pub(super) fn peer(
        &self,
        programs: &Programs,
        script: &str,
        (size, guidance): (&str, Guidance),
        variants: &[impl Borrow<str>],
    ) -> Result<Rival> {
        let mut command = self.script(programs, script, size, guidance);
        command.args(["--variants", &variants.join(",")]);
        Rival::start(script, command)
    }

    /// The command of a script of benches/peers.
    pub(super) fn script(
        &self,
        programs: &Programs,
        script: &str,
        size: &str,
        guidance: Guidance,
    ) -> Command {
        let mut command = Command::new(&programs.python);
        command.arg(workspace::root().join("benches/peers").join(script));
        self.told(command, size, guidance)
    }

    /// Writes the rows where they are wanted.
    pub(super) fn write(&self, rows: &[impl Serialize]) -> Result<()> {
        let Some(file) = &self.json else {
            return Ok(());
        };
        let text = serde_json::to_string_pretty(rows)? + "\n";
        files::write(file, text)
    }

    /// The command, with what every rival is told.
    fn told(&self, mut command: Command, size: &str, guidance: Guidance) -> Command {
        let processors = || std::thread::available_parallelism().ok().map(usize::from);
        let threads = self.threads.or_else(processors).unwrap_or(1);
        command.args(["--size", size, "--device", &self.device]);
        command.args(["--threads", &threads.to_string()]);
        command.args(["--guidance", &guidance.name()]);
        // Of libgomp, on both sides: with its long default the figures are those of the machine's other guests.
        command.env("GOMP_SPINCOUNT", "10000");
        if let Some(batch) = self.batch {
            command.args(["--batch", &batch.to_string()]);
        }
        command
    }
}
