//! The measurements of the GPU kit that need libtorch: the step table, the accuracy of a run on the digits, a profile, a group.
//!
//! Every result is a line of JSON on standard output as soon as it is known, so that a program that is stopped loses nothing.

mod digits;
mod group;
mod profile;
mod steps;

use std::error::Error;

use clap::Parser;
use meanflow_torch::recover;

/// Measures one thing; every result is a line of JSON.
#[derive(Parser)]
enum Question {
    /// What does a training step cost, by size, kind, precision and mode?
    Steps(steps::Steps),
    /// How many samples of a run on the digits show the class that was asked for?
    Digits(digits::Digits),
    /// Where does the time of a guided step go?
    Profile(profile::Profiling),
    /// Does a group of one rank do what it says?
    Group(group::Group),
}

fn main() {
    let result = match Question::parse() {
        Question::Steps(args) => steps::run(&args),
        Question::Digits(args) => digits::run(&args),
        Question::Profile(args) => profile::run(&args),
        Question::Group(args) => group::run(&args),
    };
    if let Err(error) = &result {
        eprintln!("{error}");
    }
    // At once: destructors of libtorch's static objects must not run under threads of NCCL.
    signal_hook::low_level::exit(i32::from(result.is_err()));
}

/// Does work on so many rows, or on as many halves of them as it takes to fit. Where memory ends, libtorch may panic.
fn fitting<T>(
    rows: &mut usize,
    mut work: impl FnMut(usize) -> Result<T, Box<dyn Error>>,
) -> Result<T, Box<dyn Error>> {
    loop {
        match recover("do a step", || work(*rows)) {
            Err(error) if error.to_string().contains("out of memory") && *rows > 1 => *rows /= 2,
            other => return other,
        }
    }
}

/// How a step is done.
fn mode(graph: bool) -> &'static str {
    if graph { "graph" } else { "eager" }
}
