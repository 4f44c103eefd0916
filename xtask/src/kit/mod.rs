//! The phases of the GPU kit in order of value, each within its time; the report is written anew after every result.
//!
//! This program does not link libtorch, so that it can tell why the programs that do cannot start.

mod child;
mod correctness;
mod digits;
mod group;
mod machine;
mod page;
mod profile;
mod report;
mod rivals;
mod sampling;
mod steps;

use anyhow::{Context, Result, bail};
use report::{Report, Status};
use serde::Serialize;
use serde_json::Value;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::str::FromStr;
use std::time::{Duration, Instant};

/// Checks a device and measures it: run.sh of the GPU kit, which finds libtorch and Python.
#[derive(clap::Parser)]
#[command(name = "run.sh", bin_name = "run.sh")]
pub(crate) struct KitRun {
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
    #[arg(long, value_name = "DIR", hide = true)]
    kit: PathBuf,
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
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Phase {
    Machine,
    Correctness,
    Digits,
    Steps,
    Rivals,
    Sampling,
    Profile,
    Group,
}

impl Phase {
    const ALL: [Self; 8] = [
        Self::Machine,
        Self::Correctness,
        Self::Digits,
        Self::Steps,
        Self::Rivals,
        Self::Sampling,
        Self::Profile,
        Self::Group,
    ];

    fn letter(self) -> char {
        (b'a' + self as u8) as char
    }

    fn name(self) -> &'static str {
        match self {
            Self::Machine => "machine",
            Self::Correctness => "correctness",
            Self::Digits => "digits",
            Self::Steps => "steps",
            Self::Rivals => "rivals",
            Self::Sampling => "sampling",
            Self::Profile => "profile",
            Self::Group => "group",
        }
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

impl FromStr for Phase {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = |phase: &Self| text == phase.name() || text == phase.letter().to_string();
        let names = Self::ALL.map(|phase| format!("{} ({})", phase.letter(), phase.name()));
        Self::ALL
            .into_iter()
            .find(known)
            .ok_or_else(|| format!("expected one of {}", names.join(", ")))
    }
}

/// What every phase knows.
#[derive(Clone, Debug)]
struct Kit {
    folder: PathBuf,
    out: PathBuf,
    device: String,
    minutes: f64,
    torch: Option<PathBuf>,
    python: Option<PathBuf>,
    jax: Option<PathBuf>,
}

impl Kit {
    fn is_cpu(&self) -> bool {
        self.device == "cpu"
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

    /// Adds a row to the phase's table.
    fn row(&mut self, row: Value) -> Result<()> {
        self.report.row(row)
    }

    /// Adds a sentence below the phase's table.
    fn remark(&mut self, text: impl Into<String>) -> Result<()> {
        self.report.remark(text.into())
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

    /// Runs a program to its end or the deadline. Its lines of JSON are rows, or remarks where they say so.
    fn rows_of(&mut self, mut command: Command) -> Result<Status> {
        command.stderr(self.stderr()?);
        let (deadline, log) = (self.deadline, self.log());
        let ended = child::run(command, deadline, |line| {
            let Ok(value @ Value::Object(_)) = serde_json::from_str(line) else {
                return Ok(());
            };
            match value.get("remark").and_then(Value::as_str) {
                Some(remark) => self.report.remark(remark.to_owned()),
                None => self.report.row(value),
            }
        })?;
        Ok(ended.status(&log))
    }
}

/// Runs the phases that are wanted; whether none of them failed.
pub(crate) fn run(args: &KitRun) -> Result<bool> {
    let kit = Kit {
        folder: fs::canonicalize(&args.kit)
            .with_context(|| format!("cannot find {}", args.kit.display()))?,
        out: args.out.clone(),
        device: args.device.clone(),
        minutes: args.minutes,
        torch: args.torch.clone(),
        python: args.python.clone(),
        jax: args.jax.clone(),
    };
    if !kit.is_cpu() && !kit.device.starts_with("cuda") {
        bail!("--device: expected cuda, cuda:N or cpu, got {}", kit.device);
    }
    fs::create_dir_all(kit.out.join("logs"))
        .with_context(|| format!("cannot make {}", kit.out.display()))?;
    let wanted = |phase: &Phase| args.only.is_empty() || args.only.contains(phase);
    let phases: Vec<Phase> = Phase::ALL.into_iter().filter(wanted).collect();
    let mut report = Report::new(&kit, &phases, page::text)?;
    let end = Instant::now() + Duration::from_secs_f64(60.0 * args.minutes);
    for (index, phase) in phases.iter().enumerate() {
        let left = end.saturating_duration_since(Instant::now());
        let shares: f64 = phases[index..].iter().map(|phase| phase.share()).sum();
        let limit = left.mul_f64(phase.share() / shares);
        perform(&kit, *phase, limit, &mut report)?;
    }
    println!("{}", kit.out.join("report.md").display());
    Ok(report.is_well())
}

fn perform(kit: &Kit, phase: Phase, limit: Duration, report: &mut Report) -> Result<()> {
    report.begin(phase, limit)?;
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
        Phase::Steps => steps::run(&mut session),
        Phase::Rivals => rivals::run(&mut session),
        Phase::Sampling => sampling::run(&mut session),
        Phase::Profile => profile::run(&mut session),
        Phase::Group => group::run(&mut session),
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
        assert_eq!("a".parse(), Ok(Phase::Machine));
        assert_eq!("group".parse(), Ok(Phase::Group));
        assert_eq!(Phase::Sampling.letter(), 'f');
        let error = "z".parse::<Phase>().unwrap_err();
        assert!(error.contains("b (correctness)"), "{error}");
    }
}
