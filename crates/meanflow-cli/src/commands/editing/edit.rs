//! `meanflow edit`.

use std::path::PathBuf;

use meanflow_core::FixedPoint;
use meanflow_torch::Tensor;
use meanflow_torch::sampler::{Edit as Request, Solver, edit, edit_noise};
use meanflow_train::Samples;

use super::invert::{Inverse, inverse_of};
use super::results::Plan;
use super::source::{ModelAndPictures, Opened};
use crate::commands::destination::Output;
use crate::options::Class;
use crate::output::note;
use crate::route::Route;
use crate::seeds::Seeds;

/// Draw variations of pictures: from near to the picture (strength 0) to free samples (strength 1).
///
/// Noise hides details before forms, so the strength decides what is drawn anew. A variation depends on its picture, seed, class, strength,
/// the times and method, and the weights alone.
#[derive(Debug, clap::Args)]
#[command(
    override_usage = "meanflow edit MODEL PICTURES --strength S --seeds SEEDS --out PATH",
    after_help = "Examples:\n  meanflow edit runs/digits digits --indices 0-7 --strength 0.3 \\\n    --seeds 0-7 --out variations.png\n  \
meanflow edit runs/digits three.png --strength 0.6 --class 8 \\\n    --seeds 0-15 --out eights.png"
)]
pub(crate) struct Edit {
    #[command(flatten)]
    source: ModelAndPictures,
    /// How far variations are from their picture, from 0 to 1
    #[arg(long, value_name = "S")]
    strength: f64,
    /// How: renoise (noise and back, one evaluation) or rotate (the picture's noise, found by inversion, turned towards another)
    #[arg(long, value_enum, default_value = "renoise")]
    method: Method,
    /// Seeds and ranges of seeds, both ends included, such as 0-63,100: a variation each of every picture
    #[arg(long)]
    seeds: Seeds,
    /// data (that of the picture), none, `balanced`, or classes by name or number, as for `meanflow sample` [default: data, where pictures have classes]
    #[arg(long, value_name = "CLASS")]
    class: Option<Class>,
    #[command(flatten)]
    route: Route,
    /// A picture (.png) with every given picture before its variations, an archive with arr_0 and arr_1 (.npz), or a folder; - for a picture on standard output
    #[arg(long, value_name = "PATH")]
    out: PathBuf,
    /// Write into a folder that is not empty
    #[arg(long)]
    force: bool,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Method {
    /// Noise of the strength, and back to a picture.
    Renoise,
    /// The picture's own noise, turned towards the seed's.
    Rotate,
}

pub(crate) fn run(args: &Edit) -> anyhow::Result<u8> {
    let output = Output::of(&args.out)?;
    output.check(&args.out, args.force)?;
    let opened = args.source.open()?;
    let plan = Plan::new(&opened, &args.seeds.0, args.class.as_ref())?;
    let (grid, solver) = args.route.resolve();
    let noise = match args.method {
        Method::Renoise => None,
        Method::Rotate => Some(noise(&opened, &grid, solver)?),
    };
    let batch_size = Samples::rows_an_evaluation(&opened.model);
    let (samples, effort) = plan.draw(&opened, "variations", |block| {
        let request = Request {
            strength: args.strength,
            seeds: &block.seeds,
            labels: block.labels,
            grid: &grid,
            batch_size,
        };
        match &noise {
            None => edit(&opened.model, &block.x, &request, solver),
            Some(noise) => {
                let places: Vec<i64> = block.places.iter().map(|&place| place as i64).collect();
                let e = noise.index_select(0, &Tensor::from_slice(&places));
                edit_noise(&opened.model, &e, &request, solver)
            }
        }
    })?;
    plan.write(&opened, &samples, (output, &args.out), &[])?;
    effort.report(&args.out, &samples.shape);
    Ok(0)
}

/// The noise of all pictures, each by its own class; a note says which do not lead back.
fn noise(opened: &Opened, grid: &[f64], solver: Solver) -> anyhow::Result<Tensor> {
    let rows: Vec<(usize, u64)> = (0..opened.len())
        .map(|place| (place, place as u64))
        .collect();
    let labels = opened.labels(None, &rows)?;
    let settings = FixedPoint {
        tolerance: super::invert::TOLERANCE,
        max_nfe: super::invert::MAX_NFE,
    };
    let Inverse { noise, misses, .. } =
        inverse_of(opened, labels.as_deref(), (grid, solver), settings)?;
    let most = misses.iter().copied().fold(0.0, f64::max);
    note(format_args!(
        "note: the noise of the pictures leads back to them within {most:.4} (root mean square, at most)"
    ));
    Ok(noise)
}
