//! A program that has until a deadline, and is heard line by line.

use super::report::Status;
use anyhow::{Context, Result};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

/// How a program ended.
#[derive(Clone, Copy, Debug)]
pub(super) enum Ended {
    /// By itself.
    Itself(ExitStatus),
    /// At the deadline.
    CutOff,
}

impl Ended {
    /// What that means for a phase; the last lines of `log` say why a program failed.
    pub(super) fn status(self, log: &Path) -> Status {
        match self {
            Self::CutOff => Status::CutOff,
            Self::Itself(status) if status.success() => Status::Done,
            Self::Itself(status) => {
                let text = fs::read_to_string(log).unwrap_or_default();
                let lines: Vec<&str> = text.lines().collect();
                let last = lines[lines.len().saturating_sub(3)..].join(" / ");
                Status::Failed(format!("{status}: {last}"))
            }
        }
    }
}

/// Runs a program and hands over every line of its standard output. It is killed at the deadline, or where `hear` fails.
pub(super) fn run(
    mut command: Command,
    deadline: Instant,
    mut hear: impl FnMut(&str) -> Result<()>,
) -> Result<Ended> {
    let program = command.get_program().display().to_string();
    let child = command.stdout(Stdio::piped()).spawn();
    let mut child = child.with_context(|| format!("cannot start {program}"))?;
    let output = child.stdout.take().context("no standard output")?;
    let (sender, lines) = channel();
    thread::spawn(move || {
        let mut lines = BufReader::new(output).lines().map_while(Result::ok);
        while lines.next().is_some_and(|line| sender.send(line).is_ok()) {}
    });
    let mut child = Killed(child);
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match lines.recv_timeout(left) {
            Ok(line) => hear(&line)?,
            Err(RecvTimeoutError::Timeout) => return Ok(Ended::CutOff),
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    // Its output is closed, so that it is about to end.
    while Instant::now() < deadline {
        if let Some(status) = child.0.try_wait()? {
            return Ok(Ended::Itself(status));
        }
        thread::sleep(Duration::from_millis(5));
    }
    Ok(Ended::CutOff)
}

/// A program that does not outlive this value.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // One that has ended cannot be killed, and needs not.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(script: &str, milliseconds: u64) -> (Ended, Vec<String>) {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        let mut lines = Vec::new();
        let deadline = Instant::now() + Duration::from_millis(milliseconds);
        let ended = run(command, deadline, |line| {
            lines.push(line.to_owned());
            Ok(())
        });
        (ended.unwrap(), lines)
    }

    #[test]
    fn a_program_that_is_cut_off_leaves_what_it_said() {
        let (ended, lines) = heard("echo one; echo two; exec sleep 600", 500);
        assert!(matches!(ended, Ended::CutOff));
        assert_eq!(lines, ["one", "two"]);
    }

    #[test]
    fn a_program_that_fails_says_why() {
        let log = tempfile::NamedTempFile::new().unwrap();
        fs::write(log.path(), "a\nb\nc\nd\n").unwrap();
        let (ended, _) = heard("exit 8", 60_000);
        let Status::Failed(reason) = ended.status(log.path()) else {
            panic!("{ended:?}");
        };
        assert_eq!(reason, "exit status: 8: b / c / d");
        assert!(matches!(
            heard("true", 60_000).0.status(log.path()),
            Status::Done
        ));
    }
}
