//! Residuals of the identities of a flow: how far a model's average velocities are from being those of one, without data.
//!
//! A network that is right fulfils M10 and M11 of docs/src/derivation.md between any two times. How far it is from that
//! shows where in (r, t) it was not trained enough.

use meanflow_torch::{Conditioning, JvpInputs, JvpMethod, Model, Rows, Tensor};
use serde::Serialize;
use tch::{Kind, no_grad};

use crate::EvalError;

/// Relative residuals over a grid of intervals [r, t]: a row for each r, a column for each t, nothing unless r < t.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Residuals {
    /// The times of the grid, ascending.
    pub times: Vec<f64>,
    /// Of M10, one jump against two over the middle `s`, where `z_s` is what the model's own first jump reaches:
    /// `‖(t−r) u(z_t, r, t) − (t−s) u(z_t, s, t) − (s−r) u(z_s, r, s)‖ / ‖(t−r) u(z_t, r, t)‖`.
    pub consistency_residual: Vec<Vec<Option<f64>>>,
    /// Of M11 along the model's own velocity `v = u(z_t, t, t)`: `‖u − v + (t−r) du/dt‖ / ‖v‖`.
    pub identity_residual: Vec<Vec<Option<f64>>>,
}

/// States of the path from data to noise, with what the model is told of them.
#[derive(Clone, Copy, Debug)]
pub struct Probe<'a> {
    /// Data, `[B, …]`, in model space.
    pub data: &'a Tensor,
    /// Standard normal noise of the same shape.
    pub noise: &'a Tensor,
    /// The class of each row, for a model with classes; none for rows without class.
    pub labels: Option<&'a [i64]>,
}

impl Residuals {
    /// Residuals of the model at these times; norms are over all numbers of the probe together.
    ///
    /// # Errors
    /// [`EvalError::Torch`] if the probe does not fit the model.
    pub fn of(model: &Model, probe: &Probe<'_>, times: &[f64]) -> Result<Self, EvalError> {
        let count = times.len();
        let mut residuals = Self {
            times: times.to_vec(),
            consistency_residual: vec![vec![None; count]; count],
            identity_residual: vec![vec![None; count]; count],
        };
        for (column, &t) in times.iter().enumerate() {
            let at = At::new(model, probe, t);
            for (row, &r) in times.iter().enumerate().filter(|&(_, &r)| r < t) {
                residuals.consistency_residual[row][column] = Some(at.consistency(r));
                residuals.identity_residual[row][column] = Some(at.identity(r)?);
            }
        }
        Ok(residuals)
    }
}

/// The probe at a time, with the model's velocity there.
struct At<'a> {
    model: &'a Model,
    labels: Option<&'a [i64]>,
    t: f64,
    z: Tensor,
    v: Tensor,
}

impl<'a> At<'a> {
    fn new(model: &'a Model, probe: &Probe<'a>, t: f64) -> Self {
        let rows = vec![t; probe.data.size()[0] as usize];
        let [data, noise] = [probe.data, probe.noise].map(|x| Rows(x.shallow_clone()));
        let Rows(z) = model.config().schedule.interpolate(&data, &noise, &rows);
        let v = model.predict(&z, &rows, &rows, probe.labels);
        Self {
            model,
            labels: probe.labels,
            t,
            z,
            v,
        }
    }

    /// `(t−r) u(z, r, t)`, the way of one jump.
    fn way(&self, z: &Tensor, r: f64, t: f64) -> Tensor {
        let rows = |time| vec![time; z.size()[0] as usize];
        self.model.predict(z, &rows(r), &rows(t), self.labels) * (t - r)
    }

    fn consistency(&self, r: f64) -> f64 {
        let s = f64::midpoint(r, self.t);
        let whole = self.way(&self.z, r, self.t);
        let first = self.way(&self.z, s, self.t);
        let second = self.way(&(&self.z - &first), r, s);
        norm(&(&whole - first - second)) / norm(&whole)
    }

    fn identity(&self, r: f64) -> Result<f64, EvalError> {
        let rows = self.z.size()[0];
        let time = |time: f64| Tensor::full([rows], time, (self.z.kind(), self.z.device()));
        let point = JvpInputs {
            z: self.z.shallow_clone(),
            r: time(r),
            t: time(self.t),
            condition: Conditioning::of_labels(self.classes()),
            velocity: self.v.shallow_clone(),
        };
        let (u, dudt) = no_grad(|| JvpMethod::Dual.evaluate(self.model, &point))?;
        let residual = u - &self.v + dudt * (self.t - r);
        Ok(norm(&residual) / norm(&self.v))
    }

    /// The class of each row, "no class" where none is known; nothing for a model without classes.
    fn classes(&self) -> Option<Tensor> {
        let classes = self.model.config().classes;
        let rows = self.z.size()[0] as usize;
        let labels = match self.labels {
            _ if classes == 0 => return None,
            Some(labels) => labels.to_vec(),
            None => vec![classes; rows],
        };
        Some(Tensor::from_slice(&labels).to_device(self.model.device()))
    }
}

fn norm(x: &Tensor) -> f64 {
    x.to_kind(Kind::Double).norm().double_value(&[])
}

#[cfg(test)]
mod tests {
    use super::*;
    use meanflow_testing::networks::mlp;
    use meanflow_testing::{config, normal};
    use meanflow_torch::Device;
    use meanflow_torch::layers::TimeEmbedding;

    fn model() -> Model {
        let config = config(mlp([16, 2], TimeEmbedding::TH), &[2], 0);
        Model::new(config, 3, Device::Cpu, Kind::Double).unwrap()
    }

    /// Sets every parameter: of those whose name does not end so, to normal numbers of this deviation.
    fn fill(model: &Model, deviation: f64, end: &str, value: f64) {
        for (index, (name, tensor)) in model.parameters().named().iter().enumerate() {
            let filled = if name.ends_with(end) {
                tensor.full_like(value)
            } else {
                normal(index as u64, &tensor.size()) * deviation
            };
            no_grad(|| tensor.shallow_clone().copy_(&filled));
        }
    }

    fn residuals(model: &Model, times: &[f64]) -> Residuals {
        let (data, noise) = (normal(100, &[5, 2]), normal(101, &[5, 2]));
        let probe = Probe {
            data: &data,
            noise: &noise,
            labels: None,
        };
        Residuals::of(model, &probe, times).unwrap()
    }

    #[test]
    fn a_constant_velocity_fulfils_both() {
        let model = model();
        fill(&model, 0.0, "bias", 1.0);
        let residuals = residuals(&model, &[0.0, 0.3, 1.0]);
        for grid in [
            &residuals.consistency_residual,
            &residuals.identity_residual,
        ] {
            assert_eq!(grid[1][1], None);
            assert_eq!(grid[2][0], None);
            for (r, t) in [(0, 1), (0, 2), (1, 2)] {
                // Sums of a few roundings in f64.
                assert!(grid[r][t].unwrap() < 1e-14, "{residuals:?}");
            }
        }
    }

    #[test]
    fn any_network_fulfils_both_between_times_that_meet() {
        let model = model();
        fill(&model, 0.5, "no name", 0.0);
        let interval = |h: f64| residuals(&model, &[0.6 - h, 0.6]);
        let [wide, narrow] = [interval(1e-3), interval(1e-4)];
        for (wide, narrow) in [
            (wide.consistency_residual, narrow.consistency_residual),
            (wide.identity_residual, narrow.identity_residual),
        ] {
            let (wide, narrow) = (wide[0][1].unwrap(), narrow[0][1].unwrap());
            // First order in t − r; terms of second order are a few percent at 1e-3 for these weights.
            assert!((wide / narrow / 10.0 - 1.0).abs() < 0.2, "{wide} {narrow}");
            assert!(narrow > 1e-9, "{narrow}");
        }
    }
}
