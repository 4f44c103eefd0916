//! `meanflow export hf`: a folder as users of model hubs know it.

use std::path::{Path, PathBuf};

use meanflow_data::Picture;
use meanflow_data::grid::{self, GridStyle};
use meanflow_export::hub_folder::{self, ModelCard};
use meanflow_torch::sampler::{Solver, uniform_grid};
use meanflow_train::{Samples, balanced, class_names_of, recipe_of};
use serde_json::json;

use super::facts;
use super::source::ExportedWeights;
use crate::commands::decode::Decoding;
use crate::commands::opening::Loaded;
use crate::commands::unfinished::{Unfinished, refuse_others};
use crate::output::{is_json, note, say};
use crate::usage::Usage;

/// A folder for model hubs: model card, config.json, weights, a grid of samples, and a loader for PyTorch in one file.
///
/// Every command that takes a MODEL opens it, and PyTorch by the loader in it alone.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  meanflow export hf runs/digits --out digits-one-step --license mit"
)]
pub(super) struct Hf {
    #[command(flatten)]
    source: ExportedWeights,
    /// The folder to fill
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// The name in the model card [default: that of the folder]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// The licence of the weights, by its short name such as mit; without it the card says none
    #[arg(long, value_name = "ID")]
    license: Option<String>,
    /// A data set the model was trained on, as hubs name it; may be given several times [default: what the recipe says, where hubs know it]
    #[arg(long = "dataset", value_name = "NAME")]
    datasets: Vec<String>,
    /// What `meanflow eval` measured of these weights [default: report.json of the run, if it is about them]
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// The VAE that makes the grid of samples of latents: a folder as diffusers writes it, or its weights (.safetensors)
    #[arg(long, value_name = "DIR|FILE")]
    vae: Option<PathBuf>,
    /// Write into a folder that is not empty
    #[arg(long)]
    force: bool,
}

pub(super) fn run(args: &Hf) -> anyhow::Result<u8> {
    if !(args.force && args.out.is_dir()) {
        refuse_others(&args.out, "--force writes into it")?;
    }
    let name = name(args)?;
    let opened = args.source.open()?;
    let recipe = recipe_of(&opened.weights, &opened.metadata)?;
    let metrics = facts::metrics(args.report.as_deref(), &opened.weights)?;
    let samples = samples(args, &opened)?;
    let unfinished = Unfinished::begin(&args.out)?;
    let names = class_names_of(&opened.metadata);
    let card = ModelCard {
        name: &name,
        license: args.license.as_deref(),
        datasets: match &args.datasets[..] {
            [] => recipe
                .as_ref()
                .and_then(facts::dataset)
                .into_iter()
                .collect(),
            named => named.to_vec(),
        },
        model: opened.model.config(),
        parameters: opened.model.parameters().count(),
        class_names: names.as_deref(),
        vae: facts::vae(&opened.metadata)?,
        training: recipe.as_ref().map(|recipe| {
            facts::training(
                recipe,
                &opened.metadata,
                args.source.checkpoint.ema.as_deref(),
            )
        }),
        metrics,
        has_samples: samples.is_some(),
    };
    let png = samples.map(|picture| picture.to_png()).transpose()?;
    hub_folder::write(
        &args.out,
        &opened.model,
        &opened.metadata,
        &card,
        png.as_deref(),
    )?;
    unfinished.finish()?;
    if !hub_folder::loads_in_pytorch(&opened.model.config().network) {
        note("note: without a loader for PyTorch, which does not know a network of one's own");
    }
    report(&args.out)?;
    Ok(0)
}

/// What was written.
fn report(folder: &Path) -> anyhow::Result<()> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        files.push((name, entry.metadata()?.len()));
    }
    files.sort();
    if is_json() {
        let files = files
            .iter()
            .map(|(name, bytes)| json!({"file": name, "bytes": bytes}));
        let report = json!({"out": folder, "files": files.collect::<Vec<_>>()});
        say(format_args!("{report:#}"));
        return Ok(());
    }
    for (name, bytes) in files {
        say(format_args!("{bytes:>12}  {name}"));
    }
    say(format_args!("wrote {}", folder.display()));
    Ok(())
}

/// The name of the model.
fn name(args: &Hf) -> anyhow::Result<String> {
    if let Some(name) = &args.name {
        return Ok(name.clone());
    }
    let name = args
        .out
        .file_name()
        .map(|name| name.to_string_lossy().into_owned());
    Ok(name.ok_or_else(|| {
        Usage("--name NAME is needed where --out has no name of its own".to_owned())
    })?)
}

/// A grid of samples, a class a column where that fits; the density of many for points of the plane. None of what has no picture.
fn samples(args: &Hf, opened: &Loaded) -> anyhow::Result<Option<Picture>> {
    /// Columns of a grid, and pictures in it.
    const COLUMNS: usize = 8;
    const COUNT: usize = 64;
    /// Points of a density.
    const POINTS: u64 = 20_000;
    let (model, shape) = (&opened.model, &opened.model.config().shape);
    let times = uniform_grid(1);
    let sampler = (&times[..], Solver::Jump);
    if shape.len() != 3 {
        if shape[..] != [2] {
            return Ok(None);
        }
        let seeds: Vec<u64> = (0..POINTS).collect();
        let labels = balanced(&seeds, model.config().classes);
        let (samples, _) =
            Samples::draw_by(model, &seeds, labels.as_deref(), sampler.0, sampler.1)?;
        return Ok(Some(samples.sheet(1)?));
    }
    let classes = usize::try_from(model.config().classes).unwrap_or(0);
    let columns = if (2..=2 * COLUMNS).contains(&classes) {
        classes
    } else {
        COLUMNS
    };
    let seeds: Vec<u64> = (0..(columns * (COUNT / columns)) as u64).collect();
    let labels = balanced(&seeds, model.config().classes);
    let Some(vae) = &args.vae else {
        let (samples, _) =
            Samples::draw_watched(model, &seeds, labels.as_deref(), sampler, |_| {})?;
        return Ok(Some(samples.sheet(columns)?));
    };
    let (pictures, _) = Decoding::new(vae, model, &opened.metadata)?.draw(
        model,
        (&seeds[..], labels.as_deref()),
        sampler,
    )?;
    let style = GridStyle::legible(columns, pictures.shape()[1]);
    Ok(Some(grid::sheet(&pictures, &style)?))
}
