//! `meanflow sample`.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context;
use meanflow_data::Pictures;
use meanflow_torch::{Model, Team, Tensor};
use meanflow_train::{Samples, balanced, class_names_of, data_labels, recipe_of};

use crate::commands::classes;
use crate::commands::decode::Decoding;
use crate::commands::destination::{Output, write_index};
use crate::commands::opening::{CheckpointArgs, Loaded, open_device};
use crate::commands::ranks;
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
    #[command(flatten)]
    checkpoint: CheckpointArgs,
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
    let Loaded {
        weights,
        model,
        metadata,
    } = args.checkpoint.load(&args.model, device, &args.reading)?;
    let seeds = &args.seeds.0;
    let labels = labels(&args.class, seeds, &model, (&weights, &metadata))?;
    let labels = labels.as_deref().unwrap_or_default();
    let start = Instant::now();
    let team = ranks::team()?;
    let unfinished = team.leads().then(|| output.begin(&args.out));
    let unfinished = unfinished.transpose()?.flatten();
    // Nobody writes before the folder is clean.
    team.wait()?;
    let drawing = Drawing {
        args,
        output,
        model: &model,
        metadata: &metadata,
        team: &team,
        all: Named { seeds, labels },
    };
    let (nfe, shape) = match &args.vae {
        Some(vae) => drawing.decoded(&Decoding::new(vae, &model, &metadata)?)?,
        None => drawing.plain()?,
    };
    let Some(nfe) = gathered(&team, &nfe)? else {
        return Ok(0);
    };
    let effort = Effort::new(&nfe, start.elapsed().as_secs_f64());
    if output == Output::Folder {
        let names = class_names_of(&metadata);
        write_index(&args.out, seeds, labels, names.as_deref())?;
    }
    unfinished.map(Unfinished::finish).transpose()?;
    effort.report(&args.out, &shape);
    Ok(0)
}

/// Seeds, and the class of each for a model with classes.
#[derive(Clone, Copy)]
struct Named<'a> {
    seeds: &'a [u64],
    labels: &'a [i64],
}

impl<'a> Named<'a> {
    /// The labels as the sampler takes them.
    fn labels(self) -> Option<&'a [i64]> {
        (!self.labels.is_empty()).then_some(self.labels)
    }

    /// The part of one of several processes.
    fn of(self, team: &Team) -> Self {
        let own = team.shard().samples(self.seeds.len() as u64);
        let own = own.start as usize..own.end as usize;
        Self {
            seeds: &self.seeds[own.clone()],
            labels: self.labels.get(own).unwrap_or_default(),
        }
    }
}

/// What is drawn, and where it goes.
struct Drawing<'a> {
    args: &'a Sample,
    output: Output,
    model: &'a Model,
    metadata: &'a BTreeMap<String, String>,
    team: &'a Team,
    all: Named<'a>,
}

impl Drawing<'_> {
    /// Draws the samples of this process. Each process writes its own into a folder; one file is written by the first, of all. Gives
    /// the evaluations of each, and the shape of a sample.
    fn plain(&self) -> anyhow::Result<(Vec<usize>, Vec<usize>)> {
        let (own, (grid, solver)) = (self.all.of(self.team), self.args.route.resolve());
        let progress = Count::named("samples", own.seeds.len());
        let watch = |more| progress.add(more);
        let sampler = (&grid[..], solver);
        let drawn = Samples::draw_watched(self.model, own.seeds, own.labels(), sampler, watch)?;
        progress.finish();
        let (samples, nfe) = drawn;
        let shape = samples.shape.clone();
        match self.output {
            Output::Folder if samples.is_empty() => {}
            Output::Folder => self.write(&samples, own)?,
            Output::Picture | Output::Archive => {
                if let Some(values) = self.team.gather_f32(samples.values)? {
                    let shape = shape.clone();
                    self.write(&Samples { values, shape }, self.all)?;
                }
            }
        }
        Ok((nfe, shape))
    }

    fn write(&self, samples: &Samples, named: Named<'_>) -> anyhow::Result<()> {
        let (args, named) = (self.args, (named.labels, named.seeds));
        self.output
            .write(&args.out, samples, named, args.columns, self.metadata)
    }

    /// As [`Drawing::plain`], with the pictures that a VAE makes of the samples.
    fn decoded(&self, decoding: &Decoding) -> anyhow::Result<(Vec<usize>, Vec<usize>)> {
        let (args, own, (grid, solver)) =
            (self.args, self.all.of(self.team), self.args.route.resolve());
        let progress = Count::named("samples", own.seeds.len());
        let mut pixels = Vec::new();
        let keep = |pictures: &Pictures, seeds: &[u64]| {
            progress.add(seeds.len());
            match self.output {
                Output::Folder => pictures.write_folders(&args.out, seeds)?,
                Output::Picture | Output::Archive => pixels.extend_from_slice(pictures.pixels()),
            }
            Ok(())
        };
        let sampler = (&grid[..], solver);
        let nfe = decoding.run(self.model, (own.seeds, own.labels()), sampler, keep)?;
        progress.finish();
        let [channels, height, width] = decoding.shape(self.model);
        if self.output != Output::Folder
            && let Some(all) = self.team.gather(&Tensor::from_slice(&pixels))?
        {
            let pixels = Vec::<u8>::try_from(all)?;
            let pictures = Pictures::from_pixels(pixels, [height, width, channels])?;
            let named = (self.all.labels, self.all.seeds);
            self.output
                .write_pictures(&args.out, &pictures, named, args.columns)?;
        }
        Ok((nfe, vec![channels, height, width]))
    }
}

/// The evaluations of the samples of all processes, on the first.
fn gathered(team: &Team, own: &[usize]) -> anyhow::Result<Option<Vec<usize>>> {
    let own: Vec<i64> = own.iter().map(|&count| count as i64).collect();
    let Some(all) = team.gather(&Tensor::from_slice(&own))? else {
        return Ok(None);
    };
    let all = Vec::<i64>::try_from(all)?;
    Ok(Some(all.into_iter().map(|count| count as usize).collect()))
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
