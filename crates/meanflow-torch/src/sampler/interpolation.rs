//! From one sample to another, by way of their noises.

use meanflow_core::Schedule;

use super::plan::{Plan, sent};
use super::{Drawn, Solver, carry, noise};
use crate::tensor::Rows;
use crate::{Model, TorchError};

/// A row of samples between two.
#[derive(Clone, Copy, Debug)]
pub struct Interpolation<'a> {
    /// The seeds of the first and the last sample.
    pub seeds: [u64; 2],
    /// Number of samples, the two ends included.
    pub count: usize,
    /// The class of all of them, for a conditional model; none for samples without class.
    pub class: Option<i64>,
    /// The times visited, decreasing from 1 to 0.
    pub grid: &'a [f64],
    /// Rows an evaluation.
    pub batch_size: usize,
}

/// Draws `count` samples, `[count, …]` in f32 on the CPU, of the noises `cos(½πs) e_A + sin(½πs) e_B`, `s` from 0 to 1.
///
/// The two noises are independent, so every one between them is as normal as they are, in any number of dimensions; the
/// straight line between them passes through noise of half the variance. The first and the last sample are the samples
/// of the two seeds.
///
/// # Errors
/// As [`super::sample`], and if the seeds are the same or there are fewer than two samples.
pub fn interpolate(
    model: &Model,
    request: &Interpolation,
    solver: Solver,
) -> Result<Drawn, TorchError> {
    let Interpolation { seeds, count, .. } = *request;
    if count < 2 || seeds[0] == seeds[1] {
        return Err(TorchError::Argument {
            what: "interpolation",
            expected: "two different seeds and at least two samples".into(),
            got: format!("seeds {seeds:?}, {count} samples"),
        });
    }
    let ends = noise(&seeds, &model.config().shape);
    let labels = request.class.map(|class| vec![class; count]);
    let plan = Plan {
        count,
        labels: labels.as_deref(),
        grid: request.grid,
        batch_size: request.batch_size,
        solver,
    };
    let noises = move |indices: &[usize]| {
        let shares: Vec<f64> = indices
            .iter()
            .map(|index| *index as f64 / (count - 1) as f64)
            .collect();
        let all = |end| {
            Rows(
                ends.narrow(0, end, 1)
                    .repeat_interleave_self_int(shares.len() as i64, 0, None),
            )
        };
        Schedule::Cosine.interpolate(&all(0), &all(1), &shares).0
    };
    plan.draw(model, noises, |model, e, labels| {
        carry(model, &sent(model, &e), labels, request.grid, solver)
    })
}
