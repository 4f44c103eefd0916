//! The ways from one time of a grid to the next: a jump of the average velocity, or the ODE of the instantaneous one.

use meanflow_core::solver::{Tableau, Tolerance, integrate, integrate_adaptive};
use meanflow_core::{SolverError, identity};
use tch::{Tensor, no_grad};

use super::Drawn;
use crate::tensor::Rows;
use crate::{Model, TorchError};

/// How a sample gets from one time of the grid to the next.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Solver {
    /// `z_r = z_t − (t−r) u(z_t, r, t)` (M15): one evaluation.
    Jump,
    /// Flow matching with the same network, whose velocity is `v(z, t) = u(z, t, t)` (M9): the baseline of a jump.
    Ode(Ode),
}

impl Solver {
    /// From the first of some falling times to the last, by every one between.
    ///
    /// # Errors
    /// If a tolerance cannot be met.
    pub(super) fn carry(
        self,
        model: &Model,
        start: &Tensor,
        labels: Option<&[i64]>,
        times: &[f64],
    ) -> Result<Drawn, TorchError> {
        match self {
            Self::Jump => Ok(jumps(model, start, labels, times)),
            Self::Ode(ode) => ode.solve(model, start, labels, times),
        }
    }
}

/// How `dz/dt = u(z, t, t)` (M6) is solved.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Ode {
    /// One step of this method: as many evaluations as it has stages.
    Fixed(&'static Tableau),
    /// Dormand–Prince, with as many steps as the tolerance needs.
    ///
    /// The length of a step depends on the sample, so every sample is solved in a batch of its own: in a common batch the
    /// worst one would decide, and a sample would depend on its neighbours. Weights in f32 carry no tolerance much below
    /// 10⁻⁶.
    Adaptive(Tolerance),
}

/// The jumps over falling `times`.
fn jumps(model: &Model, start: &Tensor, labels: Option<&[i64]>, times: &[f64]) -> Drawn {
    let rows = start.size()[0] as usize;
    let start = Rows(start.shallow_clone());
    let end = no_grad(|| {
        times.windows(2).fold(start, |z, step| {
            let u = Rows(model.average_velocity(
                &z.0,
                &vec![step[1]; rows],
                &vec![step[0]; rows],
                labels,
            ));
            identity::jump(&z, &u, &vec![step[0] - step[1]; rows])
        })
    });
    Drawn {
        samples: end.0,
        nfe: vec![times.len() - 1; rows],
    }
}

impl Ode {
    /// The solution over `times`, falling to data or rising to noise.
    ///
    /// # Errors
    /// If the tolerance cannot be met.
    pub(super) fn solve(
        self,
        model: &Model,
        start: &Tensor,
        labels: Option<&[i64]>,
        times: &[f64],
    ) -> Result<Drawn, TorchError> {
        let rows = start.size()[0] as usize;
        match self {
            Self::Fixed(method) => {
                let start = Rows(start.shallow_clone());
                let field = |z: &Rows, t: f64| velocity(model, z, t, labels);
                let end = no_grad(|| integrate(method, field, start, times));
                Ok(Drawn {
                    samples: end.0,
                    nfe: vec![(times.len() - 1) * method.weights.len(); rows],
                })
            }
            Self::Adaptive(tolerance) => {
                let alone = (0..rows).map(|row| {
                    let label = labels.map(|labels| &labels[row..=row]);
                    let start = Rows(start.narrow(0, row as i64, 1));
                    no_grad(|| adaptive(model, start, label, times, tolerance))
                });
                let (ends, nfe): (Vec<Tensor>, Vec<usize>) = alone
                    .collect::<Result<Vec<_>, SolverError>>()?
                    .into_iter()
                    .unzip();
                Ok(Drawn {
                    samples: Tensor::cat(&ends, 0),
                    nfe,
                })
            }
        }
    }
}

/// One sample over all times, and the evaluations it took.
fn adaptive(
    model: &Model,
    mut z: Rows,
    label: Option<&[i64]>,
    times: &[f64],
    tolerance: Tolerance,
) -> Result<(Tensor, usize), SolverError> {
    let mut nfe = 0;
    for step in times.windows(2) {
        let field = |z: &Rows, t: f64| velocity(model, z, t, label);
        let solution = integrate_adaptive(field, z, step[0], step[1], tolerance)?;
        z = solution.state;
        nfe += solution.nfe;
    }
    Ok((z.0, nfe))
}

/// `v(z, t) = u(z, t, t)` (M9).
fn velocity(model: &Model, z: &Rows, t: f64, labels: Option<&[i64]>) -> Rows {
    let times = vec![t; z.0.size()[0] as usize];
    Rows(model.average_velocity(&z.0, &times, &times, labels))
}
