//! Mixtures of Gaussians, and one Gaussian per class: closed velocities, average velocities by an ODE solve.

use num_dual::DualStruct;

use super::average_by_solver;
use super::gaussian::Gaussian;
use crate::error::{CoreError, check, positive};
use crate::scalar::Scalar;
use crate::schedule::Schedule;
use crate::solver::SolverError;
use crate::state::Norm;

/// Data drawn from one of several Gaussians.
///
/// ```
/// use meanflow_core::Schedule;
/// use meanflow_core::oracle::{Gaussian, Mixture};
///
/// let data = Mixture::new(vec![
///     (0.5, Gaussian::new(-2.0, 0.3)?),
///     (0.5, Gaussian::new(2.0, 0.3)?),
/// ])?;
/// // By symmetry a sample in the middle stays there.
/// assert_eq!(data.velocity(&Schedule::Linear, 0.0, 0.5), 0.0);
/// # Ok::<(), meanflow_core::CoreError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Mixture {
    /// Logarithm of the weight, and the component.
    components: Vec<(f64, Gaussian)>,
}

impl Mixture {
    /// Components with their weights, which need not sum to 1.
    ///
    /// # Errors
    /// Without a component, or unless every weight is finite and positive.
    pub fn new(components: Vec<(f64, Gaussian)>) -> Result<Self, CoreError> {
        let count = components.len();
        check("components", "at least 1", count as f64, count > 0)?;
        let mut logarithms = Vec::with_capacity(count);
        for (weight, component) in components {
            positive("weight", weight)?;
            logarithms.push((weight.ln(), component));
        }
        Ok(Self {
            components: logarithms,
        })
    }

    /// `v(z, t)` (M3): the velocities of the components, weighed by how likely `z` comes from each.
    pub fn velocity<D: Scalar>(&self, schedule: &Schedule, z: D, t: D) -> D {
        let components = self.components.iter();
        let logits: Vec<D> = components
            .map(|(weight, component)| component.log_density(schedule, z, t) + *weight)
            .collect();
        // Without the largest logit every exponential may underflow.
        let largest = logits.iter().map(DualStruct::re).fold(f64::MIN, f64::max);
        let shares: Vec<D> = logits.iter().map(|&l| (l - largest).exp()).collect();
        let weighted: D = shares
            .iter()
            .zip(&self.components)
            .map(|(&share, (_, component))| share * component.velocity(schedule, z, t))
            .sum();
        weighted / shares.into_iter().sum::<D>()
    }

    /// `u(z_t, r, t)` by [`average_by_solver`].
    ///
    /// # Errors
    /// Where components are so narrow that the solver finds no step.
    pub fn average_velocity<D: Norm + Scalar>(
        &self,
        schedule: &Schedule,
        z: D,
        r: D,
        t: D,
    ) -> Result<D, SolverError> {
        average_by_solver(|z, t| self.velocity(schedule, z, t), z, r, t)
    }
}

/// Data whose every class is a Gaussian: the conditional field is that of a class, the unconditional one of all.
#[derive(Clone, Debug, PartialEq)]
pub struct ClassConditional {
    classes: Vec<Gaussian>,
    marginal: Mixture,
}

impl ClassConditional {
    /// Classes with their frequencies, which need not sum to 1.
    ///
    /// # Errors
    /// As [`Mixture::new`].
    pub fn new(classes: Vec<(f64, Gaussian)>) -> Result<Self, CoreError> {
        Ok(Self {
            classes: classes.iter().map(|(_, class)| *class).collect(),
            marginal: Mixture::new(classes)?,
        })
    }

    /// The data of every class, `v(z, t|c)`.
    pub fn classes(&self) -> &[Gaussian] {
        &self.classes
    }

    /// The data of all classes together, `v(z, t)`.
    pub fn marginal(&self) -> &Mixture {
        &self.marginal
    }
}
