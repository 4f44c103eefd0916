//! Running other programs.

use anyhow::{Context, Result, bail};
use std::env;
use std::io::ErrorKind;
use std::process::{Command, Stdio};

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
    let mut words = compiler.split_whitespace();
    let program = words.next().unwrap_or("c++");
    let args: Vec<&str> = words.chain(["--version"]).collect();
    if works(program, &args)? {
        return Ok(());
    }
    bail!(
        "no C++ compiler: `{compiler}` does not run, and the bindings of libtorch are C++.\n\
         Install one (Debian, Ubuntu: `apt install g++`; Fedora: `dnf install gcc-c++`), or name yours in CXX."
    )
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
