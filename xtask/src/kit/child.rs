//! A program that has until a deadline, and is heard line by line.

use super::report::Status;
use crate::command;
use anyhow::{Context, Result};
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::RecvTimeoutError;
use std::time::Instant;

/// Runs a program and hands over every line of its standard output. It is killed at the deadline, or where `hear` fails. The last
/// lines of `log` say why it failed.
pub(super) fn run(
    mut program: Command,
    deadline: Instant,
    log: &Path,
    mut hear: impl FnMut(&str) -> Result<()>,
) -> Result<Status> {
    let name = program.get_program().display().to_string();
    let child = program.stdout(Stdio::piped()).spawn();
    let mut child = Killed(child.with_context(|| format!("cannot start {name}"))?);
    let output = child.0.stdout.take().context("no standard output")?;
    let lines = command::lines(output);
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match lines.recv_timeout(left) {
            Ok(line) => hear(&line?)?,
            Err(RecvTimeoutError::Timeout) => return Ok(Status::CutOff),
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    // Its output is closed, so that it is about to end.
    Ok(match command::wait_until(&mut child.0, deadline)? {
        None => Status::CutOff,
        Some(status) if status.success() => Status::Done,
        Some(status) => {
            let text = fs::read_to_string(log).unwrap_or_default();
            let lines: Vec<&str> = text.lines().collect();
            let last = lines[lines.len().saturating_sub(3)..].join(" / ");
            Status::Failed(format!("{status}: {last}"))
        }
    })
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
    use std::time::Duration;

    fn heard(script: &str, milliseconds: u64) -> (Status, Vec<String>) {
        let log = tempfile::NamedTempFile::new().unwrap();
        fs::write(log.path(), "a\nb\nc\nd\n").unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        let mut lines = Vec::new();
        let deadline = Instant::now() + Duration::from_millis(milliseconds);
        let status = run(command, deadline, log.path(), |line| {
            lines.push(line.to_owned());
            Ok(())
        });
        (status.unwrap(), lines)
    }

    #[test]
    fn a_program_that_is_cut_off_leaves_what_it_said() {
        let (status, lines) = heard("echo one; echo two; exec sleep 600", 500);
        assert_eq!(status, Status::CutOff);
        assert_eq!(lines, ["one", "two"]);
    }

    #[test]
    fn a_program_that_fails_says_why() {
        let reason = "exit status: 8: b / c / d".to_owned();
        assert_eq!(heard("exit 8", 60_000).0, Status::Failed(reason));
        assert_eq!(heard("true", 60_000).0, Status::Done);
    }
}
