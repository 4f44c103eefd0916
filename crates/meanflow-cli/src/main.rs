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

use clap::Parser;

fn main() {
    signals::block_file_size();
    let code = match args::Args::try_parse() {
        Ok(args) => commands::run(&args).unwrap_or_else(|error| failure::report(&error)),
        Err(error) => output::help(&error),
    };
    output::leave(code)
}
