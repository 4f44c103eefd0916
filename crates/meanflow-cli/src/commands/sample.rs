//! `meanflow sample`.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use anyhow::Context;
use meanflow_torch::Model;
use meanflow_train::{Samples, balanced, class_names_of, data_labels, recipe_of, weights_within};

use crate::args::{Class, Sample};
use crate::commands::classes;
use crate::commands::decode::Decoding;
use crate::commands::destination::{Output, write_index};
use crate::commands::located::located;
use crate::commands::unfinished::Unfinished;
use crate::commands::{load_model, open_device};
use crate::effort::Effort;
use crate::failure::Usage;
use crate::progress::Count;

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
    let unfinished = Unfinished::of(output, &args.out)?;
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
                (output, args),
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
