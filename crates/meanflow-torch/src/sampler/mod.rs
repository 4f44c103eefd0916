//! Samples in one evaluation, or in a few: (M15) over a decreasing grid of times.
//!
//! [`sample`] jumps with the average velocity. [`sample_by`] also solves the ODE of the instantaneous velocity of the same
//! network, the flow-matching baseline. [`trajectory`] keeps the states on the way, [`interpolate`] goes from one sample to another,
//! [`invert`] from data to noise. [`edit`], [`inpaint`] and [`log_likelihood`] vary, complete and weigh given samples (M22–M27).
//! [`trace()`] records the jumps for other programs.

mod editing;
mod grid;
mod inpainting;
mod interpolation;
mod inversion;
mod likelihood;
mod plan;
mod solver;
mod traced;
mod trajectory;

pub use editing::{Edit, edit, edit_noise};
pub use grid::{cosine_grid, uniform_grid};
pub use inpainting::{Inpainting, inpaint};
pub use interpolation::{Interpolation, interpolate};
pub use inversion::{Inversion, invert, invert_flow};
pub use likelihood::{
    BYTE, Likelihood, LogLikelihoods, TraceMethod, bits_per_dimension, dequantised, log_likelihood,
};
pub use solver::{Ode, Solver};
pub use traced::{Decoder, Traced, trace};
pub use trajectory::{Trajectory, trajectory, trajectory_from_noise};

use std::thread;

use meanflow_core::random::{Purpose, RngStream};
use meanflow_libtorch::recover;
use tch::Tensor;

use crate::{Model, TorchError};
use editing::picked;
use plan::{Plan, sent};

/// What to draw.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// One sample a seed.
    pub seeds: &'a [u64],
    /// The class of every sample, for a conditional model; none for samples without class.
    pub labels: Option<&'a [i64]>,
    /// The times visited, decreasing from 1 to 0: one jump, or one step of another solver, between two neighbours.
    pub grid: &'a [f64],
    /// Rows an evaluation. libtorch chooses its kernels by shape, so it is part of what fixes the bits.
    pub batch_size: usize,
}

/// Samples with what they took.
#[derive(Debug)]
pub struct Drawn {
    /// `[B, …]`.
    pub samples: Tensor,
    /// Evaluations of the network for every sample, `[B]`.
    pub nfe: Vec<usize>,
}

/// The noise `e` of every seed, `[seeds, …]` in f32 on the CPU: a function of the seed and the shape alone.
pub fn noise(seeds: &[u64], shape: &[i64]) -> Tensor {
    rows_of(seeds, shape, |seed, row| {
        RngStream::new(seed, Purpose::Latent, 0).fill_normal(row);
    })
}

/// A row of random numbers for every seed, `[seeds, …shape]`, by as many threads as are worth it: every row is a stream of its own.
fn rows_of(seeds: &[u64], shape: &[i64], fill: impl Fn(u64, &mut [f32]) + Sync) -> Tensor {
    let size = shape.iter().product::<i64>() as usize;
    let mut values = vec![0.0_f32; seeds.len() * size];
    // The rows of one thread; this one takes the first.
    let share = seeds.len().div_ceil(threads(values.len())).max(1);
    let fill = |(seeds, values): (&[u64], &mut [f32])| {
        for (seed, row) in seeds.iter().zip(values.chunks_mut(size)) {
            fill(*seed, row);
        }
    };
    thread::scope(|scope| {
        let mut shares = seeds.chunks(share).zip(values.chunks_mut(share * size));
        let own = shares.next();
        for part in shares {
            scope.spawn(move || fill(part));
        }
        own.map(fill);
    });
    let mut full = vec![seeds.len() as i64];
    full.extend(shape);
    Tensor::from_slice(&values).reshape(full)
}

/// How many of libtorch's threads are worth it for so many normal numbers, each some tens of nanoseconds.
fn threads(numbers: usize) -> usize {
    const WORTHWHILE: usize = 1 << 15;
    let allowed = usize::try_from(tch::get_num_threads()).unwrap_or(1);
    (numbers / WORTHWHILE).clamp(1, allowed.max(1))
}

/// Draws samples, `[seeds, …]` in f32 on the CPU, in the model's space: the jumps of [`sample_by`].
///
/// # Errors
/// If the grid does not decrease from 1 to 0, or the labels are not one known class a seed.
pub fn sample(model: &Model, request: &Request) -> Result<Tensor, TorchError> {
    sample_by(model, request, Solver::Jump).map(|drawn| drawn.samples)
}

/// Draws samples, `[seeds, …]` in f32 on the CPU, in the model's space.
///
/// A sample depends on its seed, its class, the grid, the solver and the weights alone: every evaluation has `batch_size`
/// rows, the last one padded, so that neither the number of seeds nor their order changes a bit, nor which of the threads that share
/// the evaluations makes which. An adaptive
/// solver evaluates every sample alone, and `batch_size` has no effect.
///
/// # Errors
/// As [`sample`], and if an adaptive solver cannot meet its tolerance.
pub fn sample_by(model: &Model, request: &Request, solver: Solver) -> Result<Drawn, TorchError> {
    request.draw(model, solver, carry)
}

/// What is done with noise `e [B, …]`: model, noise, labels, grid and solver.
type FromNoise = fn(&Model, &Tensor, Option<&[i64]>, &[f64], Solver) -> Result<Drawn, TorchError>;

impl Request<'_> {
    /// What `compute` makes of the noise of every seed, in the order of the seeds.
    fn draw(&self, model: &Model, solver: Solver, compute: FromNoise) -> Result<Drawn, TorchError> {
        let plan = Plan {
            count: self.seeds.len(),
            labels: self.labels,
            grid: self.grid,
            batch_size: self.batch_size,
            solver,
        };
        let (seeds, shape) = (self.seeds, model.config().shape.clone());
        let noises = |indices: &[usize]| noise(&picked(seeds, indices), &shape);
        plan.draw(model, noises, |model, e, labels| {
            compute(model, &sent(model, &e), labels, self.grid, solver)
        })
    }
}

/// The samples that given noise `e [B, …]` becomes by jumps, in its type and on its device.
///
/// # Errors
/// As [`sample`].
pub fn from_noise(
    model: &Model,
    e: &Tensor,
    labels: Option<&[i64]>,
    grid: &[f64],
) -> Result<Tensor, TorchError> {
    from_noise_by(model, e, labels, grid, Solver::Jump).map(|drawn| drawn.samples)
}

/// The samples that given noise `e [B, …]` becomes, in its type and on its device.
///
/// # Errors
/// As [`sample_by`].
pub fn from_noise_by(
    model: &Model,
    e: &Tensor,
    labels: Option<&[i64]>,
    grid: &[f64],
    solver: Solver,
) -> Result<Drawn, TorchError> {
    check_input(model, e, labels, grid)?;
    recover("draw samples", || carry(model, e, labels, grid, solver))
}

/// From the prior `b₁ e` to data.
fn carry(
    model: &Model,
    e: &Tensor,
    labels: Option<&[i64]>,
    grid: &[f64],
    solver: Solver,
) -> Result<Drawn, TorchError> {
    let start = e * model.config().schedule.prior_scale();
    solver.carry(model, &start, labels, grid)
}

/// Refuses a grid, or labels, with which nothing can be made of these rows `[B, …]`.
fn check_input(
    model: &Model,
    rows: &Tensor,
    labels: Option<&[i64]>,
    grid: &[f64],
) -> Result<(), TorchError> {
    grid::check(grid)?;
    check_labels(model, labels, rows.size()[0] as usize)
}

fn check_labels(model: &Model, labels: Option<&[i64]>, rows: usize) -> Result<(), TorchError> {
    let Some(labels) = labels else {
        return Ok(());
    };
    let classes = model.config().classes;
    let known = labels.iter().all(|label| (0..=classes).contains(label));
    if classes > 0 && known && labels.len() == rows {
        return Ok(());
    }
    let expected = match classes {
        0 => "none, the model is unconditional".into(),
        _ => format!("{rows} classes of 0..={classes}, {classes} for none"),
    };
    Err(TorchError::Argument {
        what: "labels",
        expected,
        got: format!("{labels:?}"),
    })
}
