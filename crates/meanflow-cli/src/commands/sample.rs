//! `meanflow sample`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Instant;

use anyhow::Context;
use meanflow_data::npy::{NpySlice, NpyView};
use meanflow_data::npz::{self, Compression};
use meanflow_torch::Model;
use meanflow_train::{RECIPE_KEY, Samples, TrainConfig, balanced, weights_of};
use serde_json::json;

use crate::args::{Class, Sample};
use crate::commands::open_device;
use crate::failure::Usage;
use crate::output::say;

pub(crate) fn run(args: &Sample) -> anyhow::Result<u8> {
    let output = Output::of(&args.out)?;
    output.check(args)?;
    let device = open_device(&args.compute)?;
    let (model, metadata) = Model::load(&weights_of(&args.model), device)?;
    let seeds = &args.seeds.0;
    let labels = labels(args.class, seeds, &model, &metadata)?;
    let start = Instant::now();
    let samples = Samples::draw(&model, seeds, labels.as_deref(), args.steps.get())?;
    let seconds = start.elapsed().as_secs_f64();
    output.write(args, &samples, labels.as_deref().unwrap_or_default())?;
    if args.json {
        let report = json!({
            "out": args.out, "samples": seeds.len(), "shape": samples.shape, "steps": args.steps, "seconds": seconds,
        });
        say(format_args!("{report:#}"));
    } else {
        let (count, out) = (seeds.len(), args.out.display());
        say(format_args!(
            "{out}: {count} samples, {} evaluations each, {seconds:.2} s",
            args.steps
        ));
    }
    Ok(0)
}

/// The class of every seed; none for a model without classes.
fn labels(
    class: Class,
    seeds: &[u64],
    model: &Model,
    metadata: &BTreeMap<String, String>,
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
        Class::Data => labels_of_data(seeds, metadata)?,
        Class::Only(label) if (0..classes).contains(&label) => vec![label; seeds.len()],
        Class::Only(label) => {
            return Err(Usage(format!(
                "--class: expected 0 to {}, got {label}",
                classes - 1
            ))
            .into());
        }
    }))
}

/// Seed `s` has the label of sample `s` of the training data, from the start again after the last.
fn labels_of_data(seeds: &[u64], metadata: &BTreeMap<String, String>) -> anyhow::Result<Vec<i64>> {
    let recipe = metadata.get(RECIPE_KEY).ok_or_else(|| {
        Usage("--class data: these weights do not say what they were trained on".to_owned())
    })?;
    let config = TrainConfig::parse(Path::new("the recipe in the weights file"), recipe, &[])?;
    let data = config
        .data
        .load(config.seed)
        .context("--class data needs the training data")?;
    let labels = data.labels();
    Ok(seeds
        .iter()
        .map(|seed| labels[(seed % labels.len() as u64) as usize])
        .collect())
}

/// What kind of output a path asks for.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Output {
    Picture,
    Archive,
    Folder,
}

impl Output {
    fn of(path: &Path) -> anyhow::Result<Self> {
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("png") => Ok(Self::Picture),
            Some("npz") => Ok(Self::Archive),
            None => Ok(Self::Folder),
            Some(other) => Err(Usage(format!(
                "--out: expected NAME.png, NAME.npz or a folder, got a .{other} file"
            ))
            .into()),
        }
    }

    /// Refuses an output that cannot be written before anything is computed.
    fn check(self, args: &Sample) -> anyhow::Result<()> {
        let (path, shown) = (&args.out, args.out.display());
        if self != Self::Folder {
            if path.is_dir() {
                return Err(Usage(format!("--out {shown}: expected a file, got a folder")).into());
            }
            let parent = path
                .parent()
                .filter(|parent| !parent.as_os_str().is_empty());
            if let Some(parent) = parent.filter(|parent| !parent.is_dir()) {
                return Err(Usage(format!(
                    "--out {shown}: there is no folder {}",
                    parent.display()
                ))
                .into());
            }
            return Ok(());
        }
        if path.is_file() {
            return Err(Usage(format!("--out {shown}: expected a folder, got a file")).into());
        }
        let occupied = fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_some());
        if occupied && !args.force {
            return Err(Usage(format!(
                "--out {shown}: the folder is not empty; --force writes into it"
            ))
            .into());
        }
        Ok(())
    }

    fn write(self, args: &Sample, samples: &Samples, labels: &[i64]) -> anyhow::Result<()> {
        match self {
            Self::Picture => {
                let columns = args
                    .columns
                    .map_or_else(|| square(samples.len()), std::num::NonZeroUsize::get);
                samples.sheet(columns)?.write_png(&args.out)?;
            }
            Self::Archive if samples.shape == [2] => {
                let array = NpyView {
                    shape: &[samples.len(), 2],
                    data: NpySlice::F32(&samples.values),
                };
                npz::write(&args.out, &[("arr_0", array)], Compression::Deflate)?;
            }
            Self::Archive => npz::write_samples(&args.out, &samples.pictures()?, labels)?,
            Self::Folder if samples.shape == [2] => {
                return Err(Usage(
                    "--out: points of the plane go into NAME.png or NAME.npz".to_owned(),
                )
                .into());
            }
            Self::Folder => samples
                .pictures()?
                .write_folders(&args.out, &args.seeds.0)?,
        }
        Ok(())
    }
}

/// Columns of a grid that is about square.
fn square(count: usize) -> usize {
    (count as f64).sqrt().ceil() as usize
}
