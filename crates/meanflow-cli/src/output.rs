//! Standard output, standard error and logs, and how the process ends.
//!
//! Standard error has the level of `RUST_LOG` (error, warn or info, which is the default) and the form of `--log-format`.
//!
//! A reader that goes away, such as `head`, ends no run: what it does not read is dropped. Any other failure to write
//! to standard output is the failure of the command, whose result nobody got.

use std::fmt::Display;
use std::io::{self, ErrorKind, IsTerminal, Write, stderr, stdout};
use std::path::Path;
use std::sync::OnceLock;

use serde_json::{Map, Value};
use signal_hook::low_level;

use crate::log::{Level, LogFormat, format, is_drawn, line, log, most, time};
use crate::usage::Usage;

/// The first failure to write to standard output.
static UNWRITTEN: OnceLock<io::Error> = OnceLock::new();

static JSON: OnceLock<bool> = OnceLock::new();

/// Chooses between results for people and for programs, once, before anything is said.
pub(crate) fn choose_json(is_json: bool) {
    let _ = JSON.set(is_json);
}

/// Whether results and errors are JSON on standard output.
pub(crate) fn is_json() -> bool {
    JSON.get().copied().unwrap_or(false)
}

/// Results, on standard output.
pub(crate) fn say(text: impl Display) {
    keep(writeln!(stdout(), "{text}"));
}

/// Remarks, warnings and errors, on standard error and in the log; their first word says which they are.
pub(crate) fn note(text: impl Display) {
    let text = text.to_string();
    let level = Level::of(&text);
    if level <= most() {
        match format() {
            LogFormat::Text => write_error(&text),
            LogFormat::Json => write_error(&line(level, &text, Map::new())),
        }
    }
    log(level, &text);
}

/// How far the work is, on standard error where no bar shows it, and in the log.
pub(crate) fn progress(text: &str, fields: Map<String, Value>) {
    if Level::Info <= most() {
        match format() {
            LogFormat::Json => write_error(&line(Level::Info, text, fields)),
            LogFormat::Text if !is_drawn() => write_error(&format!("{} {text}", time())),
            LogFormat::Text => {}
        }
    }
    log(Level::Info, text);
}

fn write_error(text: &str) {
    let _ = writeln!(stderr(), "{text}");
}

/// Whether a path means standard output.
pub(crate) fn is_standard_output(path: &Path) -> bool {
    path == Path::new("-")
}

/// A file, on standard output, which must not be a terminal.
pub(crate) fn write_out(bytes: &[u8]) -> Result<(), Usage> {
    if stdout().is_terminal() {
        let text = "--out -: expected a pipe or a file for what is no text, got a terminal";
        return Err(Usage(text.to_owned()));
    }
    keep(stdout().write_all(bytes));
    Ok(())
}

/// A text that ends its last line itself, on standard output.
pub(crate) fn write_text(text: &[u8]) {
    keep(stdout().write_all(text));
}

/// What clap has to say, in its own form.
pub(crate) fn print_clap(error: &clap::Error) {
    keep(error.print());
}

fn keep(written: io::Result<()>) {
    if let Err(error) = written
        && error.kind() != ErrorKind::BrokenPipe
    {
        // Later failures have the reason of the first.
        let _ = UNWRITTEN.set(error);
    }
}

/// The first failure to write to standard output, after all of it is written.
pub(crate) fn unwritten() -> Option<io::Error> {
    keep(stdout().flush());
    UNWRITTEN.get().map(|error| io::Error::from(error.kind()))
}

/// Ends the process at once. The destructors of libtorch's static objects do not run: they take 0.1 s, and memory is
/// damaged where another thread computes meanwhile.
pub(crate) fn end(code: u8) -> ! {
    low_level::exit(i32::from(code))
}
