//! The states between noise and data.

use meanflow_libtorch::recover;
use tch::Tensor;

use super::{Drawn, Request, Solver, check_input};
use crate::{Model, TorchError};

/// The way of samples from noise to data.
#[derive(Debug)]
pub struct Trajectory {
    /// The state of every sample at every time of the grid, `[B, times, …]`: first the prior `b₁ e`, last the sample.
    pub states: Tensor,
    /// Evaluations of the network for every sample, `[B]`.
    pub nfe: Vec<usize>,
}

/// The states that [`super::sample_by`] visits, in f32 on the CPU: at the last time of the grid they are its samples, to the bit.
///
/// The states of jumps lie on the trajectories of the flow where the network is exact (M10); those of the ODE lie on them where its
/// steps are short. Between two times neither says anything: one more time in the grid of jumps is one more evaluation, which
/// changes what follows.
///
/// # Errors
/// As [`super::sample_by`].
pub fn trajectory(
    model: &Model,
    request: &Request,
    solver: Solver,
) -> Result<Trajectory, TorchError> {
    Ok(request.draw(model, solver, visited)?.into())
}

/// The states through which given noise `e [B, …]` becomes samples, in its type and on its device.
///
/// # Errors
/// As [`super::from_noise_by`].
pub fn trajectory_from_noise(
    model: &Model,
    e: &Tensor,
    labels: Option<&[i64]>,
    grid: &[f64],
    solver: Solver,
) -> Result<Trajectory, TorchError> {
    check_input(model, e, labels, grid)?;
    let drawn = recover("follow samples", || visited(model, e, labels, grid, solver))?;
    Ok(drawn.into())
}

impl From<Drawn> for Trajectory {
    fn from(drawn: Drawn) -> Self {
        Self {
            states: drawn.samples,
            nfe: drawn.nfe,
        }
    }
}

/// All states from the prior `b₁ e` to data, side by side in the second dimension.
fn visited(
    model: &Model,
    e: &Tensor,
    labels: Option<&[i64]>,
    grid: &[f64],
    solver: Solver,
) -> Result<Drawn, TorchError> {
    let mut states = vec![e * model.config().schedule.prior_scale()];
    let mut nfe = vec![0; e.size()[0] as usize];
    for step in grid.windows(2) {
        let start = &states[states.len() - 1];
        let drawn = solver.carry(model, start, labels, step)?;
        for (sum, more) in nfe.iter_mut().zip(drawn.nfe) {
            *sum += more;
        }
        states.push(drawn.samples);
    }
    Ok(Drawn {
        samples: Tensor::stack(&states, 1),
        nfe,
    })
}
