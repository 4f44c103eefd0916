//! The phases of the GPU kit in order of value, each within its time; the report is written anew after every result.
//!
//! This program does not link libtorch, so that it can tell why the programs that do cannot start.

mod child;
mod correctness;
mod digits;
mod machine;
mod measure;
mod page;
mod report;
mod rivals;
mod sampling;

use crate::files;
use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use report::{Report, Status};
use serde::Serialize;
use serde_json::Value;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Checks a device and measures it: run.sh of the GPU kit, which finds libtorch and Python.
#[derive(Debug, clap::Parser)]
#[command(name = "run.sh", bin_name = "run.sh")]
pub(crate) struct Kit {
    /// About how long all of it may take.
    #[arg(long, default_value_t = 8.0, value_parser = minutes)]
    minutes: f64,
    /// cuda, cuda:N or cpu.
    #[arg(long, default_value = "cuda")]
    device: String,
    /// Only these phases, by letter or name, separated by commas.
    #[arg(long, value_name = "PHASE,…", value_delimiter = ',')]
    only: Vec<Phase>,
    /// The folder of report.json and report.md, which is made [default: report, in the current folder].
    #[arg(long, value_name = "DIR", default_value = "report")]
    out: PathBuf,
    /// The folder with libtorch's libraries, such as torch/lib of a Python's packages [default: found].
    #[arg(long, value_name = "DIR")]
    torch: Option<PathBuf>,
    /// The folder of the kit; run.sh says it.
    #[arg(long = "kit", value_name = "DIR", hide = true)]
    folder: PathBuf,
    /// A Python that has torch; run.sh finds it.
    #[arg(long, value_name = "FILE", hide = true)]
    python: Option<PathBuf>,
    /// A Python that has jax; run.sh finds it.
    #[arg(long, value_name = "FILE", hide = true)]
    jax: Option<PathBuf>,
}

fn minutes(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(minutes) if minutes > 0.0 && minutes < 1e4 => Ok(minutes),
        _ => Err("expected a number of minutes above 0 and below 10000".to_owned()),
    }
}

/// What the kit does, in order of value.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Phase {
    #[value(alias = "a")]
    Machine,
    #[value(alias = "b")]
    Correctness,
    #[value(alias = "c")]
    Digits,
    #[value(alias = "d")]
    Steps,
    #[value(alias = "e")]
    Rivals,
    #[value(alias = "f")]
    Sampling,
    #[value(alias = "g")]
    Profile,
    #[value(alias = "h")]
    Group,
}

impl Phase {
    fn letter(self) -> char {
        (b'a' + self as u8) as char
    }

    fn name(self) -> String {
        format!("{self:?}").to_lowercase()
    }

    /// Its part of the time, where every phase is wanted and uses it up. What a phase leaves goes to those after it.
    fn share(self) -> f64 {
        match self {
            Self::Machine | Self::Group => 1.0,
            Self::Correctness => 5.0,
            Self::Digits | Self::Rivals => 4.0,
            Self::Steps => 6.0,
            Self::Sampling | Self::Profile => 2.0,
        }
    }
}

impl Kit {
    fn is_cpu(&self) -> bool {
        self.device == "cpu"
    }

    /// The size that a device is measured with first.
    fn size(&self) -> &'static str {
        if self.is_cpu() { "digits" } else { "b4" }
    }

    /// A program of the kit.
    fn program(&self, name: &str) -> Command {
        self.quiet(Command::new(self.folder.join("bin").join(name)))
    }

    /// A script of the kit under a Python.
    fn script(&self, python: &Path, name: &str) -> Command {
        let mut command = Command::new(python);
        command.arg(self.folder.join("benches/peers").join(name));
        self.quiet(command)
    }

    fn quiet(&self, mut command: Command) -> Command {
        command.stdin(Stdio::null());
        // Of libgomp: with its long default the figures are those of the machine's other guests.
        command.env("GOMP_SPINCOUNT", "10000");
        command
    }
}

/// A phase while it runs.
struct Session<'a> {
    kit: &'a Kit,
    phase: Phase,
    report: &'a mut Report,
    deadline: Instant,
}

impl Session<'_> {
    fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// The file that takes what programs say on standard error.
    fn log(&self) -> PathBuf {
        let name = format!("{}-{}.log", self.phase.letter(), self.phase.name());
        self.kit.out.join("logs").join(name)
    }

    fn stderr(&self) -> Result<File> {
        let path = self.log();
        let file = File::options().create(true).append(true).open(&path);
        file.with_context(|| format!("cannot write {}", path.display()))
    }

    /// Runs a program to its end or the deadline, and hears its lines. What it says on standard error goes into the log.
    fn hear(
        &mut self,
        mut command: Command,
        mut hear: impl FnMut(&mut Report, &str) -> Result<()>,
    ) -> Result<Status> {
        command.stderr(self.stderr()?);
        let log = self.log();
        child::run(command, self.deadline, &log, |line| hear(self.report, line))
    }

    /// Runs a program that must end well before the deadline.
    fn finish(&mut self, command: Command) -> Result<()> {
        match self.hear(command, |_, _| Ok(()))? {
            Status::Done => Ok(()),
            other => bail!("{other}"),
        }
    }

    /// Runs a program to its end or the deadline. Its lines of JSON are rows, or remarks where they say so.
    fn rows_of(&mut self, command: Command) -> Result<Status> {
        self.hear(command, |report, line| {
            let Ok(value @ Value::Object(_)) = serde_json::from_str(line) else {
                return Ok(());
            };
            match value.get("remark").and_then(Value::as_str) {
                Some(remark) => report.remark(remark),
                None => report.row(value),
            }
        })
    }
}

/// Runs the phases that are wanted; whether none of them failed.
pub(crate) fn run(mut kit: Kit) -> Result<bool> {
    kit.folder = fs::canonicalize(&kit.folder)
        .with_context(|| format!("cannot find {}", kit.folder.display()))?;
    if !kit.is_cpu() && !kit.device.starts_with("cuda") {
        bail!("--device: expected cuda, cuda:N or cpu, got {}", kit.device);
    }
    files::make_folder(&kit.out.join("logs"))?;
    let wanted = |phase: &Phase| kit.only.is_empty() || kit.only.contains(phase);
    let phases = Phase::value_variants().iter().copied();
    let phases: Vec<Phase> = phases.filter(wanted).collect();
    let mut report = Report::new(&kit, &phases, page::text)?;
    let end = Instant::now() + Duration::from_secs_f64(60.0 * kit.minutes);
    for (index, phase) in phases.iter().enumerate() {
        let left = end.saturating_duration_since(Instant::now());
        let shares: f64 = phases[index..].iter().map(|phase| phase.share()).sum();
        let limit = left.mul_f64(phase.share() / shares);
        report.begin(index, limit)?;
        perform(&kit, *phase, limit, &mut report)?;
    }
    println!("{}", kit.out.join("report.md").display());
    Ok(report.is_well())
}

fn perform(kit: &Kit, phase: Phase, limit: Duration, report: &mut Report) -> Result<()> {
    let start = Instant::now();
    let mut session = Session {
        kit,
        phase,
        report,
        deadline: start + limit,
    };
    let status = match phase {
        Phase::Machine => machine::run(&mut session),
        Phase::Correctness => correctness::run(&mut session),
        Phase::Digits => digits::run(&mut session),
        Phase::Steps => measure::steps(&mut session),
        Phase::Rivals => rivals::run(&mut session),
        Phase::Sampling => sampling::run(&mut session),
        Phase::Profile => measure::profile(&mut session),
        Phase::Group => measure::group(&mut session),
    };
    let status = status.unwrap_or_else(|error| {
        // Whatever still waits for a program at the deadline gets the error that it did not answer.
        if start.elapsed() >= limit {
            return Status::CutOff;
        }
        Status::Failed(format!("{error:#}"))
    });
    println!(
        "{} {}: {status} ({:.1} s)",
        phase.letter(),
        phase.name(),
        start.elapsed().as_secs_f64()
    );
    report.end(status, start.elapsed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_phase_has_a_letter_and_a_name() {
        for phase in Phase::value_variants() {
            for word in [phase.letter().to_string(), phase.name()] {
                assert_eq!(Phase::from_str(&word, false), Ok(*phase));
            }
        }
    }
}
