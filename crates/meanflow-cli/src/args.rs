//! The command line, as it is typed.

use clap::{CommandFactory, Parser, Subcommand};

use crate::commands::check::{self, Check};
use crate::commands::convert::{self, Convert};
use crate::commands::data::{self, Data};
use crate::commands::doctor::{self, Doctor};
use crate::commands::editing::edit::{self, Edit};
use crate::commands::editing::inpaint::{self, Inpaint};
use crate::commands::editing::invert::{self, Invert};
use crate::commands::editing::likelihood::{self, Likelihood};
use crate::commands::ema::{self, Ema};
use crate::commands::eval;
use crate::commands::eval::options::Eval;
use crate::commands::export::{self, Export};
use crate::commands::info::{self, Info};
use crate::commands::interpolate::{self, Interpolate};
use crate::commands::launch::{self, Launch};
use crate::commands::manual::{self, Completions, Manual};
use crate::commands::metrics::{self, Metrics};
use crate::commands::new::{self, New};
use crate::commands::sample::{self, Sample};
#[cfg(feature = "serve")]
use crate::commands::serve::{self, Serve};
use crate::commands::train::{self, Train};
use crate::commands::validate::{self, Validate};
use crate::log::LogFormat;

/// One-step generative models by MeanFlow: train, sample, inspect.
#[derive(Debug, Parser)]
#[command(name = "meanflow", version = VERSION, propagate_version = true, max_term_width = 80, after_help = EXIT_CODES)]
pub(crate) struct CommandLine {
    #[command(subcommand)]
    command: Command,
    /// How remarks and progress on standard error look; RUST_LOG=warn leaves out all but warnings and errors
    #[arg(
        long,
        global = true,
        value_enum,
        value_name = "text|json",
        default_value = "text",
        hide_possible_values = true
    )]
    pub(crate) log_format: LogFormat,
    /// Report on standard output as JSON, errors too
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

/// The version, the revision of the source, and the libtorch that the program was built for.
const VERSION: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    " (",
    env!("MEANFLOW_REVISION"),
    ", for libtorch 2.11)"
);

const EXIT_CODES: &str = "Exit codes: 0 done · 1 other, also output that cannot be written · 2 usage · 3 config · 4 data · \
5 checkpoint or weights unusable · 6 disk full · 7 not finite: loss, weights or samples · 8 device or libtorch · \
9 another process of the run was lost · 10 stopped by --max-time, after a checkpoint · \
128 + N stopped by signal N, after a checkpoint: 130 Ctrl-C, 143 SIGTERM, 129 SIGHUP, 138 SIGUSR1";

#[derive(Debug, Subcommand)]
enum Command {
    New(New),
    Train(Train),
    Launch(Launch),
    Sample(Sample),
    Interpolate(Interpolate),
    Edit(Edit),
    Inpaint(Inpaint),
    Invert(Invert),
    Likelihood(Likelihood),
    Eval(Eval),
    Metrics(Metrics),
    Info(Info),
    Ema(Ema),
    Validate(Validate),
    Check(Check),
    Convert(Convert),
    Export(Export),
    Data(Data),
    Doctor(Doctor),
    #[cfg(feature = "serve")]
    Serve(Serve),
    Completions(Completions),
    Man(Manual),
}

impl CommandLine {
    /// Does what is asked for; the exit code.
    pub(crate) fn run(&self) -> anyhow::Result<u8> {
        match &self.command {
            Command::New(args) => new::run(args),
            Command::Train(args) => train::run(args),
            Command::Launch(args) => launch::run(args),
            Command::Sample(args) => sample::run(args),
            Command::Interpolate(args) => interpolate::run(args),
            Command::Edit(args) => edit::run(args),
            Command::Inpaint(args) => inpaint::run(args),
            Command::Invert(args) => invert::run(args),
            Command::Likelihood(args) => likelihood::run(args),
            Command::Eval(args) => eval::run(args),
            Command::Metrics(args) => metrics::run(args),
            Command::Info(args) => info::run(args),
            Command::Ema(args) => ema::run(args),
            Command::Validate(args) => validate::run(args),
            Command::Check(args) => check::run(args),
            Command::Convert(args) => convert::run(args),
            Command::Export(args) => export::run(args),
            Command::Data(args) => data::run(args),
            Command::Doctor(args) => doctor::run(args),
            #[cfg(feature = "serve")]
            Command::Serve(args) => serve::run(args),
            Command::Completions(args) => manual::completions(args, Self::command()),
            Command::Man(args) => manual::manual(args, Self::command()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn the_command_line_is_consistent() {
        CommandLine::command().debug_assert();
    }

    /// The commands in the fences of a page: lines that go on are joined, comments and what becomes of the output are cut off.
    fn commands(page: &str) -> Vec<String> {
        let fences = page.split("```").skip(1).step_by(2);
        let joined = fences.map(|fence| fence.replace("\\\n", " "));
        let lines: Vec<String> = joined
            .flat_map(|fence| fence.lines().map(str::to_owned).collect::<Vec<_>>())
            .collect();
        let command = |line: &String| {
            let line = line.trim().trim_start_matches("$ ");
            let end = [" # ", " > ", " | ", " && ", "; "]
                .into_iter()
                .filter_map(|sign| line.find(sign))
                .min();
            line[..end.unwrap_or(line.len())].trim().to_owned()
        };
        let ours = |line: &String| line.starts_with("meanflow ") && !line.contains(['…', '[', '<']);
        lines.iter().map(command).filter(ours).collect()
    }

    /// The words of a command, as a shell reads them.
    fn words(command: &str) -> Vec<String> {
        let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
        for letter in command.chars() {
            match (letter, quote) {
                ('\'' | '"', None) => {
                    quote = Some(letter);
                    word.get_or_insert_default();
                }
                (_, Some(open)) if letter == open => quote = None,
                (' ', None) => words.extend(word.take()),
                _ => word.get_or_insert_default().push(letter),
            }
        }
        words.extend(word);
        words
    }

    #[test]
    fn every_command_in_the_pages_is_one() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let mut pages = vec![root.join("README.md")];
        let mut folders = vec![root.join("docs/src")];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                match path.is_dir() {
                    true => folders.push(path),
                    false if path.extension().is_some_and(|end| end == "md") => pages.push(path),
                    false => {}
                }
            }
        }
        let (mut count, mut wrong) = (0, Vec::new());
        for page in pages {
            for command in commands(&std::fs::read_to_string(&page).unwrap()) {
                count += 1;
                if let Err(error) = CommandLine::try_parse_from(words(&command))
                    && error.use_stderr()
                {
                    wrong.push(format!("{}: {command}\n{error}", page.display()));
                }
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        assert!(count > 50, "only {count} commands were found");
    }
}
