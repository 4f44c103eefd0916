//! Running other programs.

use anyhow::{Context, Result, bail, ensure};
use std::env;
use std::io::{BufRead, BufReader, ErrorKind};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

/// The cargo that runs this program, in the workspace's root.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(crate::workspace::root());
    command
}

/// Runs to the end; anything but success is an error that shows the command line.
pub(crate) fn succeed(command: &mut Command) -> Result<()> {
    let line = line(command);
    let status = command
        .status()
        .with_context(|| format!("cannot start: {line}"))?;
    if !status.success() {
        bail!("{status}: {line}");
    }
    Ok(())
}

/// Runs to the end; what it said on standard output. Anything but success is an error that shows the command line, and what it said
/// on standard error unless that went elsewhere.
pub(crate) fn answer(command: &mut Command) -> Result<String> {
    let line = line(command);
    let output = command
        .output()
        .with_context(|| format!("cannot start: {line}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}: {line}\n{said}", output.status);
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The lines that a program says, as they come, until it closes its output.
pub(crate) fn lines(output: ChildStdout) -> Receiver<std::io::Result<String>> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        let mut lines = BufReader::new(output).lines();
        while lines.next().is_some_and(|line| sender.send(line).is_ok()) {}
    });
    receiver
}

/// Waits for the end of a program, but no longer than until a deadline.
pub(crate) fn wait_until(child: &mut Child, deadline: Instant) -> Result<Option<ExitStatus>> {
    const PAUSE: Duration = Duration::from_millis(5);
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match child.try_wait()? {
            None if !left.is_zero() => thread::sleep(left.min(PAUSE)),
            ended => return Ok(ended),
        }
    }
}

/// Whether a program can be started at all and ends well with these arguments.
pub(crate) fn works(program: &str, args: &[&str]) -> Result<bool> {
    let status = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    match status {
        Ok(status) => Ok(status.success()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).with_context(|| format!("cannot start {program}")),
    }
}

/// Fails with advice where no C++ compiler answers: libtorch's bindings are C++.
pub(crate) fn require_cxx() -> Result<()> {
    let compiler = env::var("CXX").unwrap_or_else(|_| "c++".to_owned());
    // CXX may carry arguments or a launcher ("ccache g++").
    let words: Vec<&str> = compiler.split_whitespace().collect();
    let (program, launched) = words.split_first().unwrap_or((&"c++", &[]));
    let ask = |question: &str| answer(Command::new(program).args(launched).arg(question));
    let Ok(about) = ask("--version") else {
        bail!(
            "no C++ compiler: `{compiler}` does not run, and the bindings of libtorch are C++.\n\
             Install one (Debian, Ubuntu: `apt install g++`; Fedora: `dnf install gcc-c++`), or name yours in CXX."
        );
    };
    match gcc(&about, &ask("-dumpversion").unwrap_or_default()) {
        Some(major) if major < GCC => bail!(
            "`{compiler}` is GCC {major}, and the kernels need GCC {GCC} or newer, or Clang.\n\
             Install one (Debian, Ubuntu: `apt install g++-{GCC}`) and name it in CXX."
        ),
        _ => Ok(()),
    }
}

/// The oldest GCC that compiles the kernels, as the build script of meanflow-libtorch has it.
const GCC: u32 = 12;

/// The major version of a GCC by its answers to `--version` and `-dumpversion`; none for another compiler.
fn gcc(about: &str, version: &str) -> Option<u32> {
    let is_gcc = about.contains("Free Software Foundation");
    let major = version.trim().split('.').next();
    major.filter(|_| is_gcc)?.parse().ok()
}

/// The command as a person would type it.
fn line(command: &Command) -> String {
    let words = [command.get_program()]
        .into_iter()
        .chain(command.get_args());
    words
        .map(|word| word.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gcc_is_known_by_its_answers() {
        let about =
            "g++ (Ubuntu 11.4.0) 11.4.0\nCopyright (C) 2021 Free Software Foundation, Inc.\n";
        assert_eq!(gcc(about, "11\n"), Some(11));
        assert_eq!(gcc(about, "8.5.0\n"), Some(8));
        assert_eq!(gcc("clang version 18.1.3\n", "18.1.3\n"), None);
    }

    #[test]
    fn a_failure_shows_the_command_and_its_status() {
        let error = succeed(Command::new("sh").args(["-c", "exit 3"])).unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("exit status: 3") && text.contains("sh -c exit 3"),
            "{text}"
        );
    }

    #[test]
    fn a_missing_program_does_not_work_and_is_no_error() {
        assert!(!works("no-such-program-anywhere", &[]).unwrap());
        assert!(works("sh", &["-c", "true"]).unwrap());
        assert!(!works("sh", &["-c", "false"]).unwrap());
    }
}
