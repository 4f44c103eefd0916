//! `meanflow interpolate`.

use std::time::Instant;

use meanflow_train::{Samples, class_names_of, weights_of};

use crate::args::{Class, Interpolate};
use crate::commands::classes;
use crate::commands::destination::Output;
use crate::commands::located::located;
use crate::commands::{load_model, open_device};
use crate::effort::Effort;
use crate::failure::Usage;

pub(crate) fn run(args: &Interpolate) -> anyhow::Result<u8> {
    let output = Output::of(&args.out)?;
    if output == Output::Folder {
        return Err(Usage("--out: expected NAME.png or NAME.npz".to_owned()).into());
    }
    output.check(&args.out, false)?;
    let [first, last] = *args.seeds.0 else {
        let count = args.seeds.0.len();
        return Err(Usage(format!("--seeds: expected two seeds, got {count}")).into());
    };
    let device = open_device(&args.compute)?;
    let weights = weights_of(&located(&args.model, &args.reading)?);
    let (model, metadata) = load_model(&weights, device, &args.reading)?;
    let names = class_names_of(&metadata);
    let class = class(&args.class, model.config().classes, names.as_deref())?;
    let (grid, solver) = args.route.resolve();
    let start = Instant::now();
    let count = args.count.get();
    let (samples, evaluations) =
        Samples::between(&model, [first, last], count, class, (&grid, solver))?;
    let effort = Effort::new(&evaluations, start.elapsed().as_secs_f64());
    let labels = class.map_or_else(Vec::new, |class| vec![class; count]);
    let columns = args.columns.unwrap_or(args.count);
    output.write(
        &args.out,
        &samples,
        (&labels, &[]),
        Some(columns),
        &metadata,
    )?;
    effort.report(&args.out, &samples.shape);
    Ok(0)
}

/// The one class of all samples; none for a model without classes.
fn class(class: &Class, classes: i64, names: Option<&[String]>) -> Result<Option<i64>, Usage> {
    match class {
        Class::Without => Ok((classes > 0).then_some(classes)),
        _ if classes == 0 => Err(Usage(
            "--class: expected none, this model has no classes".to_owned(),
        )),
        Class::Listed(words) if words.len() == 1 => {
            Ok(classes::numbers(words, classes, names)?.pop())
        }
        _ => {
            let text = "--class: expected none or one class, by its name or number";
            Err(Usage(text.to_owned()))
        }
    }
}
