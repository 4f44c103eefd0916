//! `meanflow sample`.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context;
use meanflow_torch::Model;
use meanflow_train::{Samples, balanced, class_names_of, data_labels, recipe_of, weights_within};

use crate::commands::classes;
use crate::commands::decode::Decoding;
use crate::commands::destination::{Output, write_index};
use crate::commands::located::located;
use crate::commands::opening::{load_model, open_device};
use crate::commands::unfinished::Unfinished;
use crate::effort::Effort;
use crate::options::{Class, Compute, Reading};
use crate::progress::Count;
use crate::route::Route;
use crate::seeds::Seeds;
use crate::usage::Usage;

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
    model: PathBuf,
    /// The checkpoint of a run after so many steps, in the place of its last weights
    #[arg(long, value_name = "STEP")]
    checkpoint: Option<u64>,
    /// The average of a run, by its decay or as half-life-N [default: the first of the recipe]
    #[arg(long, value_name = "NAME")]
    ema: Option<String>,
    /// Seeds and ranges of seeds, both ends included, such as 0-63,100
    #[arg(long)]
    seeds: Seeds,
    /// `balanced` (seed s has class s mod classes), `data` (the label of sample s of the training data), `none`, or classes by name or
    /// number with commas between, such as cat,dog or 1,2,3: seed s has the one at place s mod their count; a name counts before a number
    #[arg(long, value_name = "CLASS", default_value = "balanced")]
    class: Class,
    #[command(flatten)]
    route: Route,
    /// A picture (.png), - for a picture on standard output, an archive with arr_0 and arr_1 (.npz), or a folder for one picture a seed
    #[arg(long, value_name = "PATH")]
    out: PathBuf,
    /// The VAE that turns latents into pictures: a folder as diffusers writes it, or its weights (.safetensors)
    #[arg(long, value_name = "DIR|FILE")]
    vae: Option<PathBuf>,
    /// Columns of the picture [default: about as many as rows]
    #[arg(long)]
    columns: Option<NonZeroUsize>,
    /// Write into a folder that is not empty
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    reading: Reading,
    #[command(flatten)]
    compute: Compute,
}

pub(crate) fn run(args: &Sample) -> anyhow::Result<u8> {
    let output = Output::of(&args.out)?;
    output.check(&args.out, args.force)?;
    let device = open_device(&args.compute)?;
    let model = located(&args.model, &args.reading)?;
    let weights = weights_within(&model, args.checkpoint, args.ema.as_deref())?;
    let (model, metadata) = load_model(&weights, device, &args.reading)?;
    let seeds = &args.seeds.0;
    let labels = labels(&args.class, seeds, &model, (&weights, &metadata))?;
    let (grid, solver) = args.route.resolve();
    let unfinished = output.begin(&args.out)?;
    let (labels, start) = (labels.as_deref(), Instant::now());
    let progress = Count::named("samples", seeds.len());
    let watch = |more| progress.add(more);
    let (effort, shape) = match &args.vae {
        Some(vae) => {
            let decoding = Decoding::new(vae, &model, &metadata)?;
            let (evaluations, shape) = decoding.run(
                &model,
                (seeds, labels),
                (&grid, solver),
                (output, &args.out, args.columns),
                watch,
            )?;
            progress.finish();
            (
                Effort::new(&evaluations, start.elapsed().as_secs_f64()),
                shape,
            )
        }
        None => {
            let way = (&grid[..], solver);
            let (samples, evaluations) = Samples::draw_watched(&model, seeds, labels, way, watch)?;
            progress.finish();
            let effort = Effort::new(&evaluations, start.elapsed().as_secs_f64());
            let named = (labels.unwrap_or_default(), &seeds[..]);
            output.write(&args.out, &samples, named, args.columns, &metadata)?;
            (effort, samples.shape)
        }
    };
    if output == Output::Folder {
        let (labels, names) = (labels.unwrap_or_default(), class_names_of(&metadata));
        write_index(&args.out, seeds, labels, names.as_deref())?;
    }
    unfinished.map(Unfinished::finish).transpose()?;
    effort.report(&args.out, &shape);
    Ok(0)
}

/// The class of every seed; none for a model without classes.
fn labels(
    class: &Class,
    seeds: &[u64],
    model: &Model,
    (weights, metadata): (&Path, &BTreeMap<String, String>),
) -> anyhow::Result<Option<Vec<i64>>> {
    let classes = model.config().classes;
    if classes == 0 {
        return match class {
            Class::Balanced | Class::Without => Ok(None),
            _ => Err(Usage("--class: expected none, this model has no classes".to_owned()).into()),
        };
    }
    Ok(Some(match class {
        Class::Balanced => balanced(seeds, classes).unwrap_or_default(),
        Class::Without => vec![classes; seeds.len()],
        Class::Data => labels_of_data(seeds, weights, metadata)?,
        Class::Listed(words) => {
            let names = class_names_of(metadata);
            let listed = classes::numbers(words, classes, names.as_deref())?;
            let place = |seed: &u64| listed[(seed % listed.len() as u64) as usize];
            seeds.iter().map(place).collect()
        }
    }))
}

/// The labels of the training data in its proportions, as `meanflow eval` asks for them.
fn labels_of_data(
    seeds: &[u64],
    weights: &Path,
    metadata: &BTreeMap<String, String>,
) -> anyhow::Result<Vec<i64>> {
    let config = recipe_of(weights, metadata)?.ok_or_else(|| {
        Usage("--class data: these weights do not say what they were trained on".to_owned())
    })?;
    let data = config
        .data
        .load(config.seed)
        .context("--class data needs the training data")?;
    Ok(data_labels(seeds, data.labels()))
}
