//! The line protocol of benches/README.md, seen from the program that obeys.

use std::error::Error;
use std::io::{self, BufRead, Write};

use serde_json::{Value, json};

/// Says `ready`, then answers every line by a line, until `quit` or the end of the input. An error is an answer, too.
///
/// # Errors
/// If the other side is gone.
pub fn serve(mut answer: impl FnMut(&str) -> Result<Value, Box<dyn Error>>) -> io::Result<()> {
    tell("ready")?;
    for line in io::stdin().lock().lines() {
        let line = line?;
        if line == "quit" {
            break;
        }
        tell(answer(&line).unwrap_or_else(|error| json!({ "error": error.to_string() })))?;
    }
    Ok(())
}

/// Says a line at once.
///
/// # Errors
/// If the other side is gone.
pub fn tell(line: impl std::fmt::Display) -> io::Result<()> {
    let mut output = io::stdout().lock();
    writeln!(output, "{line}")?;
    output.flush()
}
