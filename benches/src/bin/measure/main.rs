//! The measurements of the GPU kit that need libtorch: the step table, the accuracy of a run on the digits, a profile.
//!
//! Every result is a line of JSON on standard output as soon as it is known, so that a program that is stopped loses nothing.

mod digits;
mod profile;
mod steps;

use std::error::Error;
use std::io::{Write, stdout};

use clap::Parser;
use serde_json::Value;

/// Measures one thing; every result is a line of JSON.
#[derive(Parser)]
enum Question {
    /// What does a training step cost, by size, kind, precision and mode?
    Steps(steps::Args),
    /// How many samples of a run on the digits show the class that was asked for?
    Digits(digits::Args),
    /// Where does the time of a guided step go?
    Profile(profile::Args),
}

fn main() -> Result<(), Box<dyn Error>> {
    match Question::parse() {
        Question::Steps(args) => steps::run(&args),
        Question::Digits(args) => digits::run(&args),
        Question::Profile(args) => profile::run(&args),
    }
}

/// Says a result.
fn tell(row: &Value) -> Result<(), Box<dyn Error>> {
    let mut output = stdout().lock();
    writeln!(output, "{row}")?;
    output.flush()?;
    Ok(())
}
