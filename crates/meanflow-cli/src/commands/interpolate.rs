//! `meanflow interpolate`.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Instant;

use meanflow_train::{Samples, class_names_of};

use crate::commands::classes;
use crate::commands::destination::Output;
use crate::commands::opening::{CheckpointArgs, Loaded, open_device};
use crate::effort::Effort;
use crate::options::{Class, Compute, Reading};
use crate::route::Route;
use crate::seeds::Seeds;
use crate::usage::Usage;

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
    model: PathBuf,
    #[command(flatten)]
    checkpoint: CheckpointArgs,
    /// Two seeds
    #[arg(long, value_name = "A,B")]
    seeds: Seeds,
    /// Number of samples, both ends included
    #[arg(long, value_name = "N", default_value = "9")]
    count: NonZeroUsize,
    /// The class of all samples, by name or number, or `none`
    #[arg(long, value_name = "CLASS", default_value = "none")]
    class: Class,
    #[command(flatten)]
    route: Route,
    /// A picture (.png), - for a picture on standard output, or an archive with arr_0 and arr_1 (.npz)
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Columns of the picture [default: one for each sample]
    #[arg(long)]
    columns: Option<NonZeroUsize>,
    #[command(flatten)]
    reading: Reading,
    #[command(flatten)]
    compute: Compute,
}

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
    let Loaded {
        model, metadata, ..
    } = args.checkpoint.load(&args.model, device, &args.reading)?;
    let names = class_names_of(&metadata);
    let class = class(&args.class, model.config().classes, names.as_deref())?;
    let (grid, solver) = args.route.resolve();
    let start = Instant::now();
    let count = args.count.get();
    let (samples, nfe) = Samples::between(&model, [first, last], count, class, (&grid, solver))?;
    let effort = Effort::new(&nfe, start.elapsed().as_secs_f64());
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
