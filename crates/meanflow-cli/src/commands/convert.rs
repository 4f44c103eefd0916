//! `meanflow convert`: official weights to ours and back, every tensor accounted for.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::{Subcommand, ValueEnum};
use meanflow_torch::convert::{ConvertedTensor, Layout, below, export, fits, import};
use meanflow_torch::{Device, Kind, Model, weights};
use serde_json::json;

use crate::commands::opening::{CheckpointArgs, Loaded, model_of};
use crate::options::{Reading, Recipe};
use crate::output::{is_json, say};

/// Turn official weights into ours, or ours into official ones; every tensor is accounted for.
///
/// Both sides are safetensors. The layout of official weights, Flax or PyTorch, is seen from their names.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
meanflow convert import official.safetensors configs/imagenet256-b4.toml \\\n    --out b4.safetensors\n  \
meanflow convert export runs/digits --layout flax --out flax.safetensors")]
pub(crate) struct Convert {
    #[command(subcommand)]
    direction: Direction,
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
        #[command(flatten)]
        checkpoint: CheckpointArgs,
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
    file: PathBuf,
    #[command(flatten)]
    recipe: Recipe,
    /// Read only the tensors whose names begin so, without that beginning
    #[arg(long, default_value = "")]
    root: String,
    /// The file to write
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum OfficialLayout {
    Flax,
    Pytorch,
}

impl OfficialLayout {
    fn layout(self) -> Layout {
        match self {
            Self::Flax => Layout::Flax,
            Self::Pytorch => Layout::PyTorch,
        }
    }
}

pub(crate) fn run(args: &Convert) -> anyhow::Result<u8> {
    let entries = match &args.direction {
        Direction::Import(to) => import_file(to)?,
        Direction::Export {
            model,
            checkpoint,
            layout,
            out,
            reading,
        } => {
            let Loaded { model, .. } = checkpoint.load(model, Device::Cpu, reading)?;
            let (tensors, entries) = export(&model, layout.layout())?;
            weights::save(out, &tensors, BTreeMap::new())?;
            entries
        }
    };
    if is_json() {
        let tensors = entries.iter().map(|entry| {
            json!({
                "official": entry.official, "official_shape": entry.official_shape, "ours": entry.ours, "shape": entry.shape,
            })
        });
        say(format_args!(
            "{:#}",
            json!({ "tensors": tensors.collect::<Vec<_>>() })
        ));
        return Ok(0);
    }
    for entry in &entries {
        say(entry);
    }
    say(format_args!("{} tensors", entries.len()));
    Ok(0)
}

fn import_file(to: &To) -> anyhow::Result<Vec<ConvertedTensor>> {
    let config = to.recipe.source(&[])?.parse()?;
    let network = model_of(&config)?;
    let tensors = below(&weights::read(&to.file)?, &to.root);
    let layout = Layout::of(tensors.keys().map(String::as_str));
    fits(&network, layout, &tensors, &to.file)?;
    let model = Model::new(network, 0, Device::Cpu, Kind::Float)?;
    let entries = import(&model, layout, &tensors, &to.file)?;
    let name = to
        .file
        .file_name()
        .map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    model.save(
        Path::new(&to.out),
        BTreeMap::from([("converted_from".to_owned(), name)]),
    )?;
    Ok(entries)
}
