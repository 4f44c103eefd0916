//! The `meanflow` command: train a one-step generative model, draw samples from it, look into its files.

mod args;
mod commands;
mod effort;
mod failure;
mod output;
mod progress;
mod route;
mod seeds;
mod signals;
mod waiting;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    match commands::run(&args::Args::parse()) {
        Ok(code) => ExitCode::from(code),
        Err(error) => failure::report(&error),
    }
}
