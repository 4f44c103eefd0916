//! The `meanflow` command: train a one-step generative model, draw samples from it, look into its files.
//!
//! The program `meanflow` is [`main`] and nothing else. A program of one's own that registers networks, schedulers and
//! data sets and then calls it is the same command for them, too:
//!
//! ```no_run
//! # use meanflow_core::Schedule;
//! # use meanflow_core::scheduler::{Jet, Scheduler};
//! # #[derive(Debug)]
//! # struct Mine;
//! # impl Scheduler for Mine {
//! #     fn a(&self, t: Jet) -> Jet { -t + 1.0 }
//! #     fn b(&self, t: Jet) -> Jet { t }
//! # }
//! Schedule::register("mine", &Mine).expect("the first of this name");
//! meanflow_cli::main()
//! ```

mod args;
mod commands;
mod effort;
mod error_file;
mod failure;
mod log;
mod news;
mod options;
mod output;
mod progress;
mod route;
mod seeds;
mod signals;
mod train_progress;
mod usage;

use clap::Parser;
use meanflow_torch::recover;

/// Does what the arguments of the process say, and ends it with the code of the command.
pub fn main() -> ! {
    signals::block_file_size();
    let code = match args::CommandLine::try_parse() {
        Ok(args) => {
            log::choose(args.log_format);
            output::choose_json(args.json);
            // Memory that is missing, wherever that is found.
            let done = recover("do what was asked for", || args.run());
            done.unwrap_or_else(|error| failure::report(&error))
        }
        Err(error) => {
            output::choose_json(std::env::args_os().any(|word| word == "--json"));
            failure::report_usage(&error)
        }
    };
    failure::leave(code)
}

/// The code in the README compiles and runs.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
