//! Standard output and error, and how the process ends.
//!
//! A reader that goes away, such as `head`, ends no run: what it does not read is dropped. Any other failure to write
//! to standard output is the failure of the command, whose result nobody got.

use std::fmt::Display;
use std::io::{self, ErrorKind, Write, stderr, stdout};
use std::sync::OnceLock;

use signal_hook::low_level;

use crate::failure;

/// The first failure to write to standard output.
static UNWRITTEN: OnceLock<io::Error> = OnceLock::new();

/// Results, on standard output.
pub(crate) fn say(text: impl Display) {
    keep(writeln!(stdout(), "{text}"));
}

/// Progress, warnings and errors, on standard error.
pub(crate) fn note(text: impl Display) {
    let _ = writeln!(stderr(), "{text}");
}

/// Prints what clap has to say, which may be the help that was asked for; the exit code.
pub(crate) fn help(error: &clap::Error) -> u8 {
    keep(error.print());
    u8::try_from(error.exit_code()).unwrap_or(failure::USAGE)
}

fn keep(written: io::Result<()>) {
    if let Err(error) = written
        && error.kind() != ErrorKind::BrokenPipe
    {
        // Later failures have the reason of the first.
        let _ = UNWRITTEN.set(error);
    }
}

/// Ends the process with this code, or with that of standard output that could not be written.
pub(crate) fn leave(code: u8) -> ! {
    keep(stdout().flush());
    let code = match UNWRITTEN.get() {
        Some(error) if code == 0 => {
            let error = io::Error::from(error.kind());
            let error = anyhow::Error::new(error).context("could not write to standard output");
            failure::report(&error)
        }
        _ => code,
    };
    end(code)
}

/// Ends the process at once. The destructors of libtorch's static objects do not run: they take 0.1 s, and memory is
/// damaged where another thread computes meanwhile.
pub(crate) fn end(code: u8) -> ! {
    low_level::exit(i32::from(code))
}
