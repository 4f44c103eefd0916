//! `meanflow invert`.

use std::path::{Path, PathBuf};
use std::time::Instant;

use meanflow_core::{FixedPoint, Norm};
use meanflow_data::npy::{self, NpySlice, NpyView};
use meanflow_data::npz::{self, Compression};
use meanflow_torch::sampler::{Solver, from_noise_by, invert, invert_flow};
use meanflow_torch::{Rows, Tensor, TorchError};
use meanflow_train::Samples;
use serde_json::json;

use super::source::{ModelAndPictures, Opened};
use crate::options::Class;
use crate::output::{is_json, say};
use crate::progress::Count;
use crate::route::Route;
use crate::usage::Usage;

/// A thousandth of the range of a picture: a byte is four times as wide.
pub(super) const TOLERANCE: f64 = 2e-3;
pub(super) const MAX_NFE: usize = 200;

/// Find the noise that a model makes given pictures of.
///
/// Jumps are undone by a fixed-point iteration, which is exact where it converges; --ode runs the flow backwards instead. Every picture's
/// residual says what its noise misses it by.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  meanflow invert runs/digits digits --indices 0-63 --out noise.npz\n  \
meanflow invert runs/digits seven.png --class 7 --steps 4 --out noise.npy"
)]
pub(crate) struct Invert {
    #[command(flatten)]
    source: ModelAndPictures,
    /// data (that of the picture), none, or classes by name or number: picture n has the one at place n mod their count [default: data, where pictures have classes]
    #[arg(long, value_name = "CLASS")]
    class: Option<Class>,
    #[command(flatten)]
    route: Route,
    /// What a jump may miss its end by: root mean square, pictures being in [-1, 1]
    #[arg(long, value_name = "RMS", default_value_t = TOLERANCE)]
    tolerance: f64,
    /// Evaluations at most for each jump
    #[arg(long, value_name = "N", default_value_t = MAX_NFE)]
    max_nfe: usize,
    /// An archive with the noise as arr_0, the classes as arr_1 and the residuals (.npz), or the noise alone (.npy)
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// The noise of pictures.
pub(super) struct Inverse {
    /// `[N, …]` in f32 on the CPU.
    pub(super) noise: Tensor,
    /// What the most inexact jump misses its end by, of every picture; none for a flow.
    residuals: Option<Vec<f64>>,
    /// What the noise misses every picture by on its way back, as a root mean square.
    pub(super) misses: Vec<f64>,
    nfe: Vec<usize>,
}

pub(crate) fn run(args: &Invert) -> anyhow::Result<u8> {
    check(args)?;
    let opened = args.source.open()?;
    let rows: Vec<(usize, u64)> = (0..opened.len())
        .map(|place| (place, place as u64))
        .collect();
    let labels = opened.labels(args.class.as_ref(), &rows)?;
    let (grid, solver) = args.route.resolve();
    let settings = FixedPoint {
        tolerance: args.tolerance,
        max_nfe: args.max_nfe,
    };
    let start = Instant::now();
    let inverse = inverse_of(&opened, labels.as_deref(), (&grid, solver), settings)?;
    write(&args.out, &inverse, labels.as_deref())?;
    report(args, &opened, &inverse, start.elapsed().as_secs_f64());
    Ok(0)
}

fn check(args: &Invert) -> Result<(), Usage> {
    let shown = args.out.display();
    let end = args.out.extension().and_then(|end| end.to_str());
    if !matches!(end, Some("npz" | "npy")) || args.out.is_dir() {
        return Err(Usage(format!(
            "--out {shown}: expected NAME.npz or NAME.npy"
        )));
    }
    let parent = args
        .out
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    if let Some(parent) = parent.filter(|parent| !parent.is_dir()) {
        let parent = parent.display();
        return Err(Usage(format!("--out {shown}: there is no folder {parent}")));
    }
    if !(args.tolerance.is_finite() && args.tolerance > 0.0) {
        let got = args.tolerance;
        return Err(Usage(format!(
            "--tolerance: expected a number above 0, got {got}"
        )));
    }
    Ok(())
}

/// Inverts all pictures, so many at a time that none depends on how many there are.
pub(super) fn inverse_of(
    opened: &Opened,
    labels: Option<&[i64]>,
    (grid, solver): (&[f64], Solver),
    settings: FixedPoint,
) -> anyhow::Result<Inverse> {
    let (block, last) = (Samples::rows_an_evaluation(&opened.model), opened.len() - 1);
    let progress = Count::named("pictures", opened.len());
    let (mut noise, mut residuals, mut misses, mut nfe) = (vec![], vec![], vec![], vec![]);
    for first in (0..opened.len()).step_by(block) {
        let places: Vec<usize> = (first..first + block)
            .map(|place| place.min(last))
            .collect();
        let fresh = block.min(opened.len() - first);
        let labels = labels.map(|labels| {
            places
                .iter()
                .map(|&place| labels[place])
                .collect::<Vec<i64>>()
        });
        let x = opened.rows(places.into_iter());
        let one = one_block(opened, &x, labels.as_deref(), (grid, solver), settings)?;
        noise.push(one.noise.narrow(0, 0, fresh as i64));
        residuals.extend(one.residuals.into_iter().flatten().take(fresh));
        misses.extend(one.misses.into_iter().take(fresh));
        nfe.extend(one.nfe.into_iter().take(fresh));
        progress.add(fresh);
    }
    progress.finish();
    Ok(Inverse {
        noise: Tensor::cat(&noise, 0),
        residuals: (solver == Solver::Jump).then_some(residuals),
        misses,
        nfe,
    })
}

/// The noise of a few pictures, and what it misses them by.
fn one_block(
    opened: &Opened,
    x: &Tensor,
    labels: Option<&[i64]>,
    (grid, solver): (&[f64], Solver),
    settings: FixedPoint,
) -> Result<Inverse, TorchError> {
    let model = &opened.model;
    let x = x.to_device(model.device());
    let (noise, residuals, nfe) = match solver {
        Solver::Jump => {
            let found = invert(model, &x, labels, grid, settings)?;
            (found.noise, Some(found.residuals), found.nfe)
        }
        Solver::Ode(ode) => {
            let found = invert_flow(model, &x, labels, grid, ode)?;
            (found.samples, None, found.nfe)
        }
    };
    let back = from_noise_by(model, &noise, labels, grid, solver)?.samples;
    let misses = Rows(back - x).mean_squares();
    Ok(Inverse {
        noise: noise.to_device(meanflow_torch::Device::Cpu),
        residuals,
        misses: misses.into_iter().map(f64::sqrt).collect(),
        nfe,
    })
}

fn write(out: &Path, inverse: &Inverse, labels: Option<&[i64]>) -> anyhow::Result<()> {
    let values = Vec::<f32>::try_from(inverse.noise.reshape([-1]))?;
    let shape: Vec<usize> = inverse
        .noise
        .size()
        .iter()
        .map(|&side| side as usize)
        .collect();
    let noise = NpyView {
        shape: &shape,
        data: NpySlice::F32(&values),
    };
    if out.extension().is_some_and(|end| end == "npy") {
        npy::write(out, noise)?;
        return Ok(());
    }
    let count = [shape[0]];
    let mut arrays = vec![("arr_0", noise)];
    if let Some(labels) = labels {
        let data = NpySlice::I64(labels);
        arrays.push((
            "arr_1",
            NpyView {
                shape: &count,
                data,
            },
        ));
    }
    let data = NpySlice::F64(inverse.residuals.as_ref().unwrap_or(&inverse.misses));
    arrays.push((
        "residuals",
        NpyView {
            shape: &count,
            data,
        },
    ));
    npz::write(out, &arrays, Compression::Deflate)?;
    Ok(())
}

fn report(args: &Invert, opened: &Opened, inverse: &Inverse, seconds: f64) {
    let most = |values: &[f64]| values.iter().copied().fold(0.0, f64::max);
    let square = |values: &[f64]| {
        let squares = values.iter().map(|value| value * value).sum::<f64>();
        (squares / values.len() as f64).sqrt()
    };
    let count = opened.len();
    let met = |residuals: &Vec<f64>| {
        residuals
            .iter()
            .filter(|&&size| size <= args.tolerance)
            .count()
    };
    if is_json() {
        let report = json!({
            "out": args.out, "pictures": count, "indices": opened.indices, "shape": opened.model.config().shape,
            "residuals": inverse.residuals, "tolerance": args.tolerance, "converged": inverse.residuals.as_ref().map(met),
            "round_trip": { "rms": square(&inverse.misses), "most": most(&inverse.misses), "each": inverse.misses },
            "nfe": inverse.nfe, "seconds": seconds,
        });
        say(format_args!("{report:#}"));
        return;
    }
    let mean = inverse.nfe.iter().sum::<usize>() as f64 / count as f64;
    let converged = match &inverse.residuals {
        Some(residuals) => format!(
            "{} of {count} within {}, the largest residual {:.2e}; ",
            met(residuals),
            args.tolerance,
            most(residuals)
        ),
        None => String::new(),
    };
    say(format_args!(
        "{}: noise of {count} pictures, {converged}the way back misses them by {:.2e} (root mean square; at most {:.2e}), {mean:.1} evaluations on average, {seconds:.2} s",
        args.out.display(),
        square(&inverse.misses),
        most(&inverse.misses)
    ));
}
