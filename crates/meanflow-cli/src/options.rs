//! Options that several commands have.

use std::convert::Infallible;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::builder::PossibleValuesParser;
use meanflow_train::config::{ConfigError, PRESETS, RecipeSource};

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

/// The recipes that come with the program.
pub(crate) fn preset_names() -> PossibleValuesParser {
    PossibleValuesParser::new(PRESETS.map(|preset| preset.name))
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
