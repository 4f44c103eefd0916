//! Standard output and error. A reader that goes away, such as `head`, ends no run: what it does not read is dropped.

use std::fmt::Display;
use std::io::{Write, stderr, stdout};

/// Results, on standard output.
pub(crate) fn say(text: impl Display) {
    let _ = writeln!(stdout(), "{text}");
}

/// Progress, warnings and errors, on standard error.
pub(crate) fn note(text: impl Display) {
    let _ = writeln!(stderr(), "{text}");
}
