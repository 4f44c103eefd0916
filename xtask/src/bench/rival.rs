//! One program that runs training steps on demand: the line protocol of `benches/README.md`.

use crate::command;
use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::io::Write;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

/// What a rival says about a step.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq)]
pub(crate) struct Reply {
    /// Wall time in milliseconds.
    pub ms: f64,
    /// Memory of the step at its peak, in MiB.
    pub peak_mib: Option<f64>,
    /// What the step did in network forwards over its batch, counted: a tangent is one, a backward pass two.
    pub units: Option<f64>,
}

/// What a rival says of a step that it cannot run.
#[derive(Deserialize)]
struct Refusal {
    error: String,
}

/// A started program. It ends with the value: its input closes.
pub(crate) struct Rival {
    name: String,
    child: Child,
    input: Option<ChildStdin>,
    /// The lines that it says, until it closes its output.
    output: Receiver<std::io::Result<String>>,
    /// When it is given up.
    pub(crate) deadline: Instant,
}

impl Rival {
    /// Starts the program and waits until it is warm.
    pub(crate) fn start(name: &str, command: Command) -> Result<Self> {
        Self::start_until(Instant::now() + FOREVER, name, command)
    }

    /// Starts the program and waits until it is warm. Whatever it does not say before the deadline is an error, then and later.
    pub(crate) fn start_until(deadline: Instant, name: &str, command: Command) -> Result<Self> {
        Self::launch(name, command)?.ready_until(deadline)
    }

    /// Starts the program, and does not wait for it. It is killed when dropped before [`Rival::ready_until`].
    pub(crate) fn launch(name: &str, mut command: Command) -> Result<Self> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        let input = child.stdin.take();
        let output = child.stdout.take().context("no standard output")?;
        Ok(Self {
            name: name.to_owned(),
            child,
            input,
            output: command::lines(output),
            deadline: Instant::now(),
        })
    }

    /// Waits until it is warm. Whatever it does not say before the deadline is an error, then and later.
    pub(crate) fn ready_until(mut self, deadline: Instant) -> Result<Self> {
        self.deadline = deadline;
        let line = self.line()?;
        if line != "ready" {
            bail!("{} said {line:?} instead of `ready`", self.name);
        }
        Ok(self)
    }

    /// Has it run one step.
    pub(crate) fn step(&mut self, variant: &str) -> Result<Reply> {
        self.ask(&format!("run {variant}"))
    }

    /// Has it answer a line by one of JSON.
    pub(crate) fn ask<T: DeserializeOwned>(&mut self, request: &str) -> Result<T> {
        let input = self.input.as_mut().context("the rival has ended")?;
        writeln!(input, "{request}")
            .and_then(|()| input.flush())
            .with_context(|| format!("{} does not listen", self.name))?;
        let line = self.line()?;
        if let Ok(Refusal { error }) = serde_json::from_str(&line) {
            bail!("{}, asked to {request}: {error}", self.name);
        }
        serde_json::from_str(&line)
            .with_context(|| format!("{}, asked to {request}, said {line}", self.name))
    }

    fn line(&mut self) -> Result<String> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        match self.output.recv_timeout(left) {
            Ok(line) => line.with_context(|| format!("cannot hear {}", self.name)),
            Err(RecvTimeoutError::Timeout) => bail!("{} did not answer in time", self.name),
            Err(RecvTimeoutError::Disconnected) => {
                bail!("{} ended: {}", self.name, self.child.wait()?)
            }
        }
    }
}

/// Longer than any measurement.
const FOREVER: Duration = Duration::from_secs(365 * 24 * 3600);

impl Drop for Rival {
    fn drop(&mut self) {
        // End of input asks it to leave; there is nobody to tell of a failure.
        drop(self.input.take());
        if Instant::now() >= self.deadline {
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
    }
}

/// A rival that takes no time, and notes in a journal what it was asked for.
#[cfg(test)]
pub(crate) fn fake(name: &str, journal: &std::path::Path) -> Rival {
    let script = "echo ready; while read -r verb variant; do \
        if [ \"$variant\" = bad ]; then echo '{\"error\": \"cannot\"}'; \
        else echo \"$variant\" >> \"$0\"; echo '{\"ms\": 2.5, \"peak_mib\": null, \"units\": 3.25}'; fi; done";
    let mut command = Command::new("sh");
    command.args(["-c", script]).arg(journal);
    Rival::start(name, command).unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_answered_and_an_error_is_reported() {
        let journal = tempfile::NamedTempFile::new().unwrap();
        let mut rival = fake("fake", journal.path());
        let reply = rival.step("plain").unwrap();
        assert_eq!(
            (reply.ms, reply.peak_mib, reply.units),
            (2.5, None, Some(3.25))
        );
        let error = format!("{:#}", rival.step("bad").unwrap_err());
        assert!(
            error.contains("run bad") && error.contains("cannot"),
            "{error}"
        );
        rival.step("plain").unwrap();
    }

    #[test]
    fn a_rival_that_is_too_slow_is_given_up() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo ready; exec sleep 600"]);
        let deadline = Instant::now() + Duration::from_millis(200);
        let mut rival = Rival::start_until(deadline, "slow", command).unwrap();
        let error = rival.step("plain").unwrap_err().to_string();
        assert!(error.contains("did not answer in time"), "{error}");
    }

    #[test]
    fn a_rival_that_dies_or_babbles_is_an_error() {
        let start = |script| {
            let mut command = Command::new("sh");
            command.args(["-c", script]);
            Rival::start("fake", command)
                .map(drop)
                .unwrap_err()
                .to_string()
        };
        assert!(start("exit 7").contains("exit status: 7"));
        assert!(start("echo hello").contains("hello"));
    }
}
