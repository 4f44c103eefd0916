//! The noise that data comes from.

use meanflow_core::{FixedPoint, invert_jump};
use tch::{Tensor, no_grad};

use super::{Drawn, Ode, check_input};
use crate::tensor::Rows;
use crate::{Model, TorchError};

/// Noise found for given data, and how well.
#[derive(Debug)]
pub struct Inversion {
    /// `e [B, …]`, in the type and on the device of the data.
    pub noise: Tensor,
    /// The most that a jump of the sample misses its end by, as a root mean square over dimensions, `[B]`.
    ///
    /// A sample above the tolerance asked for did not converge: its noise does not lead back to it.
    pub residuals: Vec<f64>,
    /// Evaluations of the network for every sample, `[B]`.
    pub nfe: Vec<usize>,
}

/// The noise from which the jumps over `grid` lead to `x [B, …]`: undoes [`super::from_noise`].
///
/// Jump by jump from data to noise, each by [`invert_jump`], whose condition of convergence is that of a jump: a finer
/// grid, whose jumps are short, converges where a single jump does not. It inverts the jumps as they are, however
/// well the network was trained; [`invert_flow`] has no equation to solve, but inverts the ODE, and leads back to
/// `x` by jumps only as far as average and instantaneous velocity agree.
///
/// # Errors
/// As [`super::from_noise`]. A sample that does not converge is none: see [`Inversion::residuals`].
pub fn invert(
    model: &Model,
    x: &Tensor,
    labels: Option<&[i64]>,
    grid: &[f64],
    settings: FixedPoint,
) -> Result<Inversion, TorchError> {
    let rows = x.size()[0] as usize;
    check_input(model, x, labels, grid)?;
    let mut z = Rows(x.shallow_clone());
    let (mut residuals, mut nfe) = (vec![0.0_f64; rows], vec![0; rows]);
    for step in grid.windows(2).rev() {
        let (t, r) = (vec![step[0]; rows], vec![step[1]; rows]);
        let u = |z: &Rows| Rows(model.average_velocity(&z.0, &r, &t, labels));
        let inverse = no_grad(|| invert_jump(u, &z, step[0] - step[1], settings));
        for row in 0..rows {
            residuals[row] = larger(residuals[row], inverse.residuals[row]);
            nfe[row] += inverse.nfe[row];
        }
        z = inverse.state;
    }
    Ok(Inversion {
        noise: z.0 / model.config().schedule.prior_scale(),
        residuals,
        nfe,
    })
}

/// The larger residual; one that is no number is the largest.
fn larger(x: f64, y: f64) -> f64 {
    if x.is_nan() || y.is_nan() {
        f64::NAN
    } else {
        x.max(y)
    }
}

/// The noise from which the ODE over `grid` leads to `x [B, …]`: the flow run from data to noise.
///
/// The error is that of the solver, there and back.
///
/// # Errors
/// As [`super::from_noise`], and if a tolerance cannot be met.
pub fn invert_flow(
    model: &Model,
    x: &Tensor,
    labels: Option<&[i64]>,
    grid: &[f64],
    ode: Ode,
) -> Result<Drawn, TorchError> {
    check_input(model, x, labels, grid)?;
    let rising: Vec<f64> = grid.iter().rev().copied().collect();
    let mut drawn = ode.solve(model, x, labels, &rising)?;
    drawn.samples /= model.config().schedule.prior_scale();
    Ok(drawn)
}
