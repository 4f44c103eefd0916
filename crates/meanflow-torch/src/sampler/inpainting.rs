//! Samples of which a part is given.

use meanflow_core::identity;
use meanflow_core::random::{Purpose, RngStream};
use tch::{Kind, Tensor, no_grad};

use super::editing::{check_rows, chosen, picked};
use super::plan::{Plan, sent};
use super::{Drawn, Solver, noise, rows_of};
use crate::tensor::Rows;
use crate::{Model, TorchError};

/// What is drawn into given samples.
#[derive(Clone, Copy, Debug)]
pub struct Inpainting<'a> {
    /// One completion a seed: of the sample in the same row.
    pub seeds: &'a [u64],
    /// The class of every completion, for a conditional model; none for completions without class.
    pub labels: Option<&'a [i64]>,
    /// The times of the jumps, decreasing from 1 to 0.
    pub grid: &'a [f64],
    /// Rows an evaluation.
    pub batch_size: usize,
}

/// Draws the values of `x [B, …]` where `mask` is true (M24), `[B, …]` in f32 on the CPU; the others stay as they are, to the bit. The mask is
/// of type bool and is broadcast to `x`.
///
/// At every time of the grid but the last a jump leads to data, the known values are put in, and fresh noise of the next time is added. With one
/// jump the drawn values know nothing of the others, and with many they follow the law of the data given the known ones: the error falls nearly as
/// one over the number of steps (on normal data, where both are known). Fresh noise is needed for that: with the same noise at
/// every time errors add up. Repeating a step at the same time, as RePaint does (Lugmayr et al. 2022), is no better than as many more times.
///
/// # Errors
/// As [`super::sample`], unless there is one seed a row, and for a mask that is not of type bool or does not broadcast to `x`.
pub fn inpaint(
    model: &Model,
    x: &Tensor,
    mask: &Tensor,
    request: &Inpainting,
) -> Result<Drawn, TorchError> {
    check_rows(model, "samples to complete", x, request.seeds.len())?;
    let mask = broadcast(mask, x)?;
    let plan = Plan {
        count: request.seeds.len(),
        labels: request.labels,
        grid: request.grid,
        batch_size: request.batch_size,
        solver: Solver::Jump,
    };
    let (x, shape) = (x.shallow_clone(), model.config().shape.clone());
    let (seeds, steps) = (request.seeds, request.grid.len().saturating_sub(1));
    let parts = move |indices: &[usize]| {
        let seeds = picked(seeds, indices);
        let noises = (0..steps).map(|step| noise_of_step(&seeds, &shape, step));
        Parts {
            x: chosen(&x, indices),
            mask: chosen(&mask, indices),
            noises: noises.collect(),
        }
    };
    plan.draw(model, parts, |model, parts, labels| {
        Ok(no_grad(|| parts.completed(model, labels, request.grid)))
    })
}

/// Rows to be completed.
struct Parts {
    x: Tensor,
    mask: Tensor,
    /// One for every jump.
    noises: Vec<Tensor>,
}

impl Parts {
    fn completed(&self, model: &Model, labels: Option<&[i64]>, grid: &[f64]) -> Drawn {
        let (x, mask) = (sent(model, &self.x), self.mask.to_device(model.device()));
        let rows = x.size()[0] as usize;
        let path = &model.config().schedule;
        let zeros = vec![0.0; rows];
        // At noise the drawn values have no data, not even the little that some paths leave there.
        let prior = sent(model, &self.noises[0]) * path.prior_scale();
        let mut completed = x.shallow_clone();
        for (step, (t, e)) in grid.iter().zip(&self.noises).enumerate() {
            let times = vec![*t; rows];
            let e = Rows(sent(model, e));
            let mut z = path.interpolate(&Rows(completed), &e, &times);
            if step == 0 {
                z = Rows(prior.where_self(&mask, &z.0));
            }
            let u = Rows(model.average_velocity(&z.0, &zeros, &times, labels));
            completed = identity::jump(&z, &u, &times).0.where_self(&mask, &x);
        }
        Drawn {
            samples: completed,
            nfe: vec![self.noises.len(); rows],
        }
    }
}

/// The noise that every seed has at a step: at the first that of a sample.
fn noise_of_step(seeds: &[u64], shape: &[i64], step: usize) -> Tensor {
    match step {
        0 => noise(seeds, shape),
        _ => rows_of(seeds, shape, |seed, row| {
            RngStream::new(seed, Purpose::Renoise, step as u64).fill_normal(row);
        }),
    }
}

/// The mask, one value for every value of `x`.
fn broadcast(mask: &Tensor, x: &Tensor) -> Result<Tensor, TorchError> {
    let refused = || TorchError::Shape {
        what: format!("mask of type {:?}", mask.kind()),
        expected: format!("of type Bool, and broadcast to {:?}", x.size()),
        got: mask.size(),
    };
    if mask.kind() != Kind::Bool {
        return Err(refused());
    }
    mask.f_expand(x.size(), false).map_err(|_| refused())
}
