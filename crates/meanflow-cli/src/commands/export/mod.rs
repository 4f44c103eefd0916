//! `meanflow export`: a model for other programs.

mod facts;
mod hf;
mod onnx;

use std::collections::BTreeMap;
use std::path::PathBuf;

use meanflow_torch::{Device, Model};
use meanflow_train::weights_within;

use crate::args::Reading;
use crate::commands::load_model;
use crate::commands::located::located;

/// Write a model for other programs: a folder for model hubs and PyTorch, or an ONNX file.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  meanflow export hf runs/digits --out digits-one-step --license mit\n  \
meanflow export onnx runs/digits --out digits.onnx"
)]
pub(crate) struct Export {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    Hf(hf::Hf),
    Onnx(onnx::Onnx),
}

/// Which weights are exported.
#[derive(Debug, clap::Args)]
struct Source {
    /// A weights file (.safetensors), a run directory or an exported folder
    #[arg(value_name = "MODEL")]
    model: PathBuf,
    /// The checkpoint of a run after so many steps, in the place of its last weights
    #[arg(long, value_name = "STEP")]
    checkpoint: Option<u64>,
    /// The average of a run, by its decay or as half-life-N [default: the first of the recipe]
    #[arg(long, value_name = "NAME")]
    ema: Option<String>,
    #[command(flatten)]
    reading: Reading,
}

/// What was opened.
struct Opened {
    /// The file of the weights.
    weights: PathBuf,
    model: Model,
    metadata: BTreeMap<String, String>,
}

pub(crate) fn run(args: &Export) -> anyhow::Result<u8> {
    match &args.what {
        What::Hf(args) => hf::run(args),
        What::Onnx(args) => onnx::run(args),
    }
}

impl Source {
    /// On the CPU, where every export is made.
    fn open(&self) -> anyhow::Result<Opened> {
        let path = located(&self.model, &self.reading)?;
        let weights = weights_within(&path, self.checkpoint, self.ema.as_deref())?;
        let (model, metadata) = load_model(&weights, Device::Cpu, &self.reading)?;
        Ok(Opened {
            weights,
            model,
            metadata,
        })
    }
}
