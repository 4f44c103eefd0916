//! The line protocol of benches/README.md, seen from the program that obeys.

use std::io::{self, BufRead, Write};

use serde_json::Value;

/// Says `ready`, then answers every line by a line, until `quit` or the end of the input.
///
/// # Errors
/// If the other side is gone.
pub fn serve(mut answer: impl FnMut(&str) -> Value) -> io::Result<()> {
    let mut output = io::stdout().lock();
    writeln!(output, "ready")?;
    output.flush()?;
    for line in io::stdin().lock().lines() {
        match line?.as_str() {
            "quit" => break,
            line => writeln!(output, "{}", answer(line))?,
        }
        output.flush()?;
    }
    Ok(())
}
