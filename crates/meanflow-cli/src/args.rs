//! The command line, as it is typed.

use std::convert::Infallible;
use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use clap::builder::PossibleValuesParser;
use clap::{Parser, Subcommand, ValueEnum};
use meanflow_torch::convert::Layout;
use meanflow_torch::{JvpMethod, Kind};
use meanflow_train::Resume;
use meanflow_train::config::{ConfigError, PRESETS, RecipeSource};

use crate::commands::doctor::Doctor;
use crate::commands::editing::edit::Edit;
use crate::commands::editing::inpaint::Inpaint;
use crate::commands::editing::invert::Invert;
use crate::commands::editing::likelihood::Likelihood;
use crate::commands::ema::Ema;
use crate::commands::encode::Encode;
use crate::commands::eval::Eval;
use crate::commands::export::Export;
use crate::commands::manual::{Completions, Manual};
use crate::commands::metrics::Metrics;
use crate::commands::pictures::{Pack, Stats, Verify};
#[cfg(feature = "serve")]
use crate::commands::serve::Serve;
use crate::commands::show::Show;
use crate::log::LogFormat;
use crate::route::Route;
use crate::seeds::Seeds;

/// One-step generative models by MeanFlow: train, sample, inspect.
#[derive(Debug, Parser)]
#[command(name = "meanflow", version = VERSION, propagate_version = true, max_term_width = 80, after_help = EXIT_CODES)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
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
pub(crate) enum Command {
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

/// Print a recipe that comes with the program, as a start of your own; without a name, list them.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  meanflow new pictures > my-pictures.toml")]
pub(crate) struct New {
    /// The recipe
    #[arg(value_name = "NAME", value_parser = preset_names(), hide_possible_values = true)]
    pub(crate) name: Option<String>,
}

/// Start several processes of one command on this machine, which share its work.
///
/// Each has a CUDA device of its own, where there are CUDA devices. No digit of a training depends on how many processes there
/// are, as long as they can share its microbatches. When one fails, the others are ended.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  meanflow launch --processes 2 -- train recipe.toml --out runs/two\n  \
meanflow launch --processes 8 --restarts 3 -- train recipe.toml\n  \
meanflow launch --processes 2 -- eval runs/digits --out report"
)]
pub(crate) struct Launch {
    /// How many
    #[arg(long, value_name = "N")]
    pub(crate) processes: NonZeroUsize,
    /// How often all of them are begun again where one has failed
    #[arg(long, value_name = "K", default_value_t = 0)]
    pub(crate) restarts: u32,
    /// train or eval, with its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub(crate) command: Vec<OsString>,
}

/// Train a model by a recipe, or go on with a run that was stopped.
///
/// The same command again continues from the newest checkpoint. Ctrl-C, SIGTERM, SIGHUP and SIGUSR1 save one and leave; a
/// second Ctrl-C or SIGTERM leaves at once.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  meanflow train configs/digits.toml\n  \
meanflow train configs/digits.toml --set training.steps=100 \\\n    --set lr.peak=5e-4 --out runs/short\n  \
meanflow train --preset pictures --set data.path=PICTURES --fast-dev-run\n  \
meanflow train configs/digits.toml --dry-run\n  \
meanflow train --replay runs/digits/crash-1.json")]
#[command(mut_arg("config", |config| config.required_unless_present("replay")))]
pub(crate) struct Train {
    #[command(flatten)]
    pub(crate) recipe: Recipe,
    /// The run directory [default: runs/NAME for configs/NAME.toml]
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    /// Where to go on from: auto (the newest checkpoint of the run directory), never, or a checkpoint folder or run directory
    #[arg(long, value_name = "auto|never|PATH", default_value = "auto")]
    pub(crate) resume: ResumeFrom,
    /// Begin with these weights (.safetensors, or a run directory) instead of drawn ones; a run that goes on does not look at them
    #[arg(long, value_name = "WEIGHTS")]
    pub(crate) init_from: Option<PathBuf>,
    /// Take the tensors of --init-from that fit, and classes by name; the others begin as drawn, other classes as "no class"
    #[arg(long, requires = "init_from")]
    pub(crate) init_partial: bool,
    /// The VAE that makes pictures of latents for the samples drawn on the way: a folder as diffusers writes it, or its weights (.safetensors)
    #[arg(long, value_name = "DIR|FILE")]
    pub(crate) vae: Option<PathBuf>,
    /// Accept that these keys of the recipe differ from those the run was begun with; the changes are recorded
    #[arg(long, value_name = "KEY,…", value_delimiter = ',')]
    pub(crate) allow_changes: Vec<String>,
    /// Save a checkpoint and stop after this time, such as 90s, 45m or 1h30m
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub(crate) max_time: Option<Duration>,
    #[command(flatten)]
    pub(crate) compute: Compute,
    /// Print the resolved recipe and do nothing
    #[arg(short = 'n', long)]
    pub(crate) dry_run: bool,
    /// Try everything once, three steps, samples and a checkpoint, and keep nothing of it
    #[arg(long, conflicts_with_all = ["out", "resume", "max_time", "dry_run"])]
    pub(crate) fast_dev_run: bool,
    /// Do the steps until a divergence again, as crash-N.json of a run directory tells them, and show the last one
    #[arg(long, value_name = "BUNDLE", conflicts_with_all = ["config", "preset", "overrides", "out", "resume", "init_from",
        "allow_changes", "max_time", "dry_run", "fast_dev_run"])]
    pub(crate) replay: Option<PathBuf>,
}

/// Draw samples from trained weights.
///
/// The sample of a seed depends on the seed, its class, the times and method, and the weights alone.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  meanflow sample runs/digits --seeds 0-63 --out grid.png\n  \
meanflow sample runs/digits --seeds 0-99 --class 7 --steps 2 --out sevens/\n  \
meanflow sample model.safetensors --seeds 0-1796 --class data --out batch.npz\n  \
meanflow sample runs/digits --seeds 0-63 --ode heun:50 --out flow-matching.png\n  \
meanflow sample runs/imagenet256-b4 --seeds 0-63 \\\n    --vae sd-vae-ft-mse/ --out grid.png"
)]
pub(crate) struct Sample {
    /// A weights file (.safetensors), a run directory, an exported folder, or hf:OWNER/NAME[@REVISION]
    #[arg(value_name = "MODEL")]
    pub(crate) model: PathBuf,
    /// The checkpoint of a run after so many steps, in the place of its last weights
    #[arg(long, value_name = "STEP")]
    pub(crate) checkpoint: Option<u64>,
    /// The average of a run, by its decay or as half-life-N [default: the first of the recipe]
    #[arg(long, value_name = "NAME")]
    pub(crate) ema: Option<String>,
    /// Seeds and ranges of seeds, both ends included, such as 0-63,100
    #[arg(long)]
    pub(crate) seeds: Seeds,
    /// `balanced` (seed s has class s mod classes), `data` (the label of sample s of the training data), `none`, or classes by name or
    /// number with commas between, such as cat,dog or 1,2,3: seed s has the one at place s mod their count; a name counts before a number
    #[arg(long, value_name = "CLASS", default_value = "balanced")]
    pub(crate) class: Class,
    #[command(flatten)]
    pub(crate) route: Route,
    /// A picture (.png), - for a picture on standard output, an archive with arr_0 and arr_1 (.npz), or a folder for one picture a seed
    #[arg(long, value_name = "PATH")]
    pub(crate) out: PathBuf,
    /// The VAE that turns latents into pictures: a folder as diffusers writes it, or its weights (.safetensors)
    #[arg(long, value_name = "DIR|FILE")]
    pub(crate) vae: Option<PathBuf>,
    /// Columns of the picture [default: about as many as rows]
    #[arg(long)]
    pub(crate) columns: Option<NonZeroUsize>,
    /// Write into a folder that is not empty
    #[arg(long)]
    pub(crate) force: bool,
    #[command(flatten)]
    pub(crate) reading: Reading,
    #[command(flatten)]
    pub(crate) compute: Compute,
}

/// Draw samples between those of two seeds, which are the first and the last.
///
/// The noise is turned from that of one seed to that of the other and is normal all the way.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  meanflow interpolate runs/digits --seeds 3,8 --count 9 --class 7 \\\n    --out between.png"
)]
pub(crate) struct Interpolate {
    /// A weights file (.safetensors), a run directory, an exported folder, or hf:OWNER/NAME[@REVISION]
    #[arg(value_name = "MODEL")]
    pub(crate) model: PathBuf,
    /// Two seeds
    #[arg(long, value_name = "A,B")]
    pub(crate) seeds: Seeds,
    /// Number of samples, both ends included
    #[arg(long, value_name = "N", default_value = "9")]
    pub(crate) count: NonZeroUsize,
    /// The class of all samples, by name or number, or `none`
    #[arg(long, value_name = "CLASS", default_value = "none")]
    pub(crate) class: Class,
    #[command(flatten)]
    pub(crate) route: Route,
    /// A picture (.png), - for a picture on standard output, or an archive with arr_0 and arr_1 (.npz)
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
    /// Columns of the picture [default: one for each sample]
    #[arg(long)]
    pub(crate) columns: Option<NonZeroUsize>,
    #[command(flatten)]
    pub(crate) reading: Reading,
    #[command(flatten)]
    pub(crate) compute: Compute,
}

/// Show what a weights file holds, and whether it is what it was.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  meanflow info runs/digits/model.safetensors")]
pub(crate) struct Info {
    /// A weights file (.safetensors), a run directory, an exported folder, or hf:OWNER/NAME[@REVISION]
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) reading: Reading,
}

/// Check a recipe and its data, and show what follows from them.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  meanflow validate configs/digits.toml --set training.batch_size=256 --measure"
)]
pub(crate) struct Validate {
    #[command(flatten)]
    pub(crate) recipe: Recipe,
    /// Train three steps, keep nothing of them, and say how long a run takes on this machine and how much memory
    #[arg(long)]
    pub(crate) measure: bool,
    #[command(flatten)]
    pub(crate) compute: Compute,
}

/// Check every route to du/dt on a network and its data, or this build against golden files.
///
/// A recipe is checked with every parameter random: a network as published starts at zero, where nothing differs.
#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Examples:\n  meanflow check runs/digits\n  meanflow check configs/digits.toml --set training.batch_size=16\n  \
meanflow check golden crates/meanflow-goldens/files/*.safetensors \\\n    --dtype f64"
)]
pub(crate) struct Check {
    #[command(subcommand)]
    pub(crate) what: Option<CheckWhat>,
    /// A weights file, a run directory or a recipe (.toml)
    #[arg(value_name = "MODEL|CONFIG")]
    pub(crate) target: Option<PathBuf>,
    /// Replace one value of the recipe; may be given several times
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) overrides: Vec<String>,
    #[command(flatten)]
    pub(crate) reading: Reading,
    #[command(flatten)]
    pub(crate) compute: Compute,
}

#[derive(Debug, Subcommand)]
pub(crate) enum CheckWhat {
    Golden(Golden),
    Device(DeviceCheck),
}

/// Check that a device computes right: golden files, derivatives, training steps, bfloat16, graphs, checkpoints.
///
/// Everything needed is in the program. The exit code is 1 where a check fails.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  meanflow check device --device cuda")]
pub(crate) struct DeviceCheck {
    /// A folder of golden files in the place of those in the program
    #[arg(long, value_name = "DIR")]
    pub(crate) goldens: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) compute: Compute,
}

/// Compute what official implementations computed, from the same weights and draws, and compare.
///
/// Beside FILE.safetensors stands FILE.json with kind and configuration. The exit code is 1 beyond tolerance.
#[derive(Debug, clap::Args)]
pub(crate) struct Golden {
    /// Golden files (.safetensors)
    #[arg(value_name = "FILE", required = true)]
    pub(crate) files: Vec<PathBuf>,
    /// The type to compute in
    #[arg(long, value_enum, default_value_t = Dtype::F32)]
    pub(crate) dtype: Dtype,
    /// The route to du/dt
    #[arg(long, value_enum, default_value_t = Derivative::Dual)]
    pub(crate) engine: Derivative,
    #[command(flatten)]
    pub(crate) compute: Compute,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Dtype {
    F32,
    F64,
}

impl Dtype {
    pub(crate) fn kind(self) -> Kind {
        match self {
            Self::F32 => Kind::Float,
            Self::F64 => Kind::Double,
        }
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Derivative {
    Dual,
    Forward,
    DoubleBackward,
}

impl Derivative {
    pub(crate) fn engine(self) -> JvpMethod {
        match self {
            Self::Dual => JvpMethod::Dual,
            Self::Forward => JvpMethod::ForwardAd,
            Self::DoubleBackward => JvpMethod::DoubleBackward,
        }
    }
}

/// Turn official weights into ours, or ours into official ones; every tensor is accounted for.
///
/// Both sides are safetensors. The layout of official weights, Flax or PyTorch, is seen from their names.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
meanflow convert import official.safetensors configs/imagenet256-b4.toml \\\n    --out b4.safetensors\n  \
meanflow convert export runs/digits --layout flax --out flax.safetensors")]
pub(crate) struct Convert {
    #[command(subcommand)]
    pub(crate) direction: Direction,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Direction {
    /// Official weights to ours
    Import(To),
    /// Ours to official ones
    Export {
        /// A weights file or a run directory
        #[arg(value_name = "MODEL")]
        model: PathBuf,
        /// The layout to write
        #[arg(long, value_enum)]
        layout: OfficialLayout,
        /// The file to write
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        #[command(flatten)]
        reading: Reading,
    },
}

#[derive(Debug, clap::Args)]
pub(crate) struct To {
    /// Official weights (.safetensors)
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) recipe: Recipe,
    /// Read only the tensors whose names begin so, without that beginning
    #[arg(long, default_value = "")]
    pub(crate) root: String,
    /// The file to write
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum OfficialLayout {
    Flax,
    Pytorch,
}

impl OfficialLayout {
    pub(crate) fn layout(self) -> Layout {
        match self {
            Self::Flax => Layout::Flax,
            Self::Pytorch => Layout::PyTorch,
        }
    }
}

/// Work on data sets.
#[derive(Debug, clap::Args)]
pub(crate) struct Data {
    #[command(subcommand)]
    pub(crate) what: DataWhat,
}

#[derive(Debug, Subcommand)]
pub(crate) enum DataWhat {
    Encode(Encode),
    Verify(Verify),
    Stats(Stats),
    Pack(Pack),
    Show(Show),
}

#[derive(Debug, clap::Args)]
pub(crate) struct Recipe {
    /// The recipe, a TOML file
    #[arg(value_name = "CONFIG", required_unless_present = "preset")]
    pub(crate) config: Option<PathBuf>,
    /// A recipe that comes with the program; `meanflow new` lists them
    #[arg(long, value_name = "NAME", conflicts_with = "config", value_parser = preset_names(), hide_possible_values = true)]
    pub(crate) preset: Option<String>,
    /// Replace one value of the recipe; may be given several times
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) overrides: Vec<String>,
}

fn preset_names() -> PossibleValuesParser {
    PossibleValuesParser::new(PRESETS.map(|preset| preset.name))
}

impl Recipe {
    /// The text of the recipe, with `more` overrides after those of the command line.
    pub(crate) fn source(&self, more: &[&str]) -> Result<RecipeSource, ConfigError> {
        let more = more.iter().map(|text| (*text).to_owned());
        let overrides: Vec<String> = self.overrides.iter().cloned().chain(more).collect();
        match (&self.preset, &self.config) {
            (Some(name), _) => RecipeSource::preset(name, &overrides),
            (None, config) => {
                RecipeSource::read(config.as_deref().unwrap_or(Path::new("")), &overrides)
            }
        }
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct Reading {
    /// Do not compare the weights with the hash of their content that is in the file
    #[arg(long)]
    pub(crate) no_verify: bool,
    /// Take hf:OWNER/NAME from what was fetched before, without the network
    #[arg(long)]
    pub(crate) offline: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Compute {
    /// cpu, cuda, cuda:N, or auto for CUDA where there is one, of several processes that of the local rank
    #[arg(long, default_value = "auto")]
    pub(crate) device: String,
    /// Threads on the CPU, which share microbatches, or operations where there is one microbatch [default: one a core]
    #[arg(long, value_name = "N")]
    pub(crate) threads: Option<NonZeroUsize>,
}

/// Where training goes on from.
#[derive(Clone, Debug)]
pub(crate) struct ResumeFrom(pub(crate) Resume);

impl FromStr for ResumeFrom {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self(match text {
            "auto" => Resume::Auto,
            "never" => Resume::Never,
            path => Resume::From(path.into()),
        }))
    }
}

/// Which class a sample is asked to have.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Class {
    Balanced,
    Data,
    Without,
    /// Names or numbers: seed s has the one at place s, from the start again after the last.
    Listed(Vec<String>),
}

impl FromStr for Class {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(match text {
            "balanced" => Self::Balanced,
            "data" => Self::Data,
            "none" => Self::Without,
            listed => Self::Listed(listed.split(',').map(str::to_owned).collect()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
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
                if let Err(error) = Args::try_parse_from(words(&command))
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
