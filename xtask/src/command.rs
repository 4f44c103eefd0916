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
        return refuse_old_gcc(&compiler, program, &args);
    }
    bail!(
        "no C++ compiler: `{compiler}` does not run, and the bindings of libtorch are C++.\n\
         Install one (Debian, Ubuntu: `apt install g++`; Fedora: `dnf install gcc-c++`), or name yours in CXX."
    )
}

/// The oldest GCC that compiles the kernels, as the build script of meanflow-libtorch has it.
const GCC: u32 = 12;

fn refuse_old_gcc(compiler: &str, program: &str, args: &[&str]) -> Result<()> {
    let ask = |question: &str| {
        let (_, launched) = args.split_last().expect("`--version` is the last");
        Command::new(program).args(launched).arg(question).output()
    };
    let [about, version] = [ask("--version")?, ask("-dumpversion")?]
        .map(|answer| String::from_utf8_lossy(&answer.stdout).into_owned());
    match gcc(&about, &version) {
        Some(major) if major < GCC => bail!(
            "`{compiler}` is GCC {major}, and the kernels need GCC {GCC} or newer, or Clang.\n\
             Install one (Debian, Ubuntu: `apt install g++-{GCC}`) and name it in CXX."
        ),
        _ => Ok(()),
    }
}

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
