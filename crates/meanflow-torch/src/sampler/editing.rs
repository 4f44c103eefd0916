//! Variations of given samples: a little noise and back, or another noise beside that of the sample.

use meanflow_core::Schedule;
use tch::Tensor;

use super::plan::{Plan, sent};
use super::{Drawn, Solver, carry, noise};
use crate::tensor::Rows;
use crate::{Model, TorchError};

/// How far variations are from their samples, and which they are.
#[derive(Clone, Copy, Debug)]
pub struct Edit<'a> {
    /// `s` in [0, 1]: at 0 a variation is its sample, at 1 it knows nothing of it.
    pub strength: f64,
    /// One variation a seed: of the sample in the same row.
    pub seeds: &'a [u64],
    /// The class of every variation, for a conditional model; none for variations without class.
    pub labels: Option<&'a [i64]>,
    /// The times visited, decreasing from 1 to 0; what begins at `s` visits `s` times as much.
    pub grid: &'a [f64],
    /// Rows an evaluation.
    pub batch_size: usize,
}

/// Variations of `x [B, …]` by noise and back (M22), `[B, …]` in f32 on the CPU: from `z_s = a_s x + b_s e'`, with the noise `e'` of the
/// seed, to time 0.
///
/// Noise hides what is small before what is large, so `s` decides which details are drawn anew. A variation of strength 0 is `x`,
/// without an evaluation; one of strength 1 is the sample of its seed, as far as the path has no data at `t = 1`. Where `x` has the
/// law of the data and the network is exact, so has the variation, for every `s`. This is SDEdit (Meng et al. 2022) with one jump in
/// the place of a simulation.
///
/// # Errors
/// As [`super::sample_by`], for a strength outside [0, 1], and unless there is one seed a row.
pub fn edit(
    model: &Model,
    x: &Tensor,
    request: &Edit,
    solver: Solver,
) -> Result<Drawn, TorchError> {
    let plan = request.plan(model, x, solver)?;
    let Edit { strength, .. } = *request;
    let times: Vec<f64> = request.grid.iter().map(|t| t * strength).collect();
    let (x, config, seeds) = (x.shallow_clone(), model.config().clone(), request.seeds);
    let rows = move |indices: &[usize]| {
        let e = noise(&picked(seeds, indices), &config.shape);
        let strengths = vec![strength; indices.len()];
        let path = &config.schedule;
        path.interpolate(&Rows(chosen(&x, indices)), &Rows(e), &strengths)
            .0
    };
    plan.draw(model, rows, |model, z, labels| {
        let z = sent(model, &z);
        if strength > 0.0 {
            return solver.carry(model, &z, labels, &times);
        }
        Ok(Drawn {
            nfe: vec![0; z.size()[0] as usize],
            samples: z,
        })
    })
}

/// Variations of the samples that noise `e [B, …]` leads to (M23), `[B, …]` in f32 on the CPU: those of the noise
/// `cos(½πs) e + sin(½πs) e'`, with the noise `e'` of the seed.
///
/// With [`super::invert`] they are variations of given samples: of strength 0, as far as the inversion leads back; of strength 1, the
/// samples of their seeds. The noise is as normal as its parts for every `s`.
///
/// # Errors
/// As [`edit`].
pub fn edit_noise(
    model: &Model,
    e: &Tensor,
    request: &Edit,
    solver: Solver,
) -> Result<Drawn, TorchError> {
    let plan = request.plan(model, e, solver)?;
    let Edit { strength, grid, .. } = *request;
    let (e, shape, seeds) = (
        e.shallow_clone(),
        model.config().shape.clone(),
        request.seeds,
    );
    let turned = move |indices: &[usize]| {
        let other = noise(&picked(seeds, indices), &shape);
        let strengths = vec![strength; indices.len()];
        let path = Schedule::Cosine;
        path.interpolate(&Rows(chosen(&e, indices)), &Rows(other), &strengths)
            .0
    };
    plan.draw(model, turned, |model, e, labels| {
        carry(model, &sent(model, &e), labels, grid, solver)
    })
}

impl Edit<'_> {
    /// What is drawn, if the rows, the seeds and the strength fit.
    fn plan(&self, model: &Model, rows: &Tensor, solver: Solver) -> Result<Plan<'_>, TorchError> {
        if !(0.0..=1.0).contains(&self.strength) {
            return Err(TorchError::Argument {
                what: "strength",
                expected: "0 to 1".into(),
                got: self.strength.to_string(),
            });
        }
        check_rows(model, "samples to vary", rows, self.seeds.len())?;
        Ok(Plan {
            count: self.seeds.len(),
            labels: self.labels,
            grid: self.grid,
            batch_size: self.batch_size,
            solver,
        })
    }
}

/// The seeds in these places.
pub(super) fn picked(seeds: &[u64], indices: &[usize]) -> Vec<u64> {
    indices.iter().map(|index| seeds[*index]).collect()
}

/// These rows of a batch.
pub(super) fn chosen(rows: &Tensor, indices: &[usize]) -> Tensor {
    let indices: Vec<i64> = indices.iter().map(|index| *index as i64).collect();
    rows.index_select(0, &Tensor::from_slice(&indices).to_device(rows.device()))
}

/// Refuses what is not one sample of the model's shape for each of `count` seeds.
pub(super) fn check_rows(
    model: &Model,
    what: &str,
    rows: &Tensor,
    count: usize,
) -> Result<(), TorchError> {
    let mut expected = vec![count as i64];
    expected.extend(&model.config().shape);
    if rows.size() == expected {
        return Ok(());
    }
    Err(TorchError::Shape {
        what: what.into(),
        expected: format!("{expected:?}, a sample of the model for each seed"),
        got: rows.size(),
    })
}
