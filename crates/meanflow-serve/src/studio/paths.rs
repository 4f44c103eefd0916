//! The ways from noise to data, beside each other.

use meanflow_core::solver::HEUN;
use meanflow_torch::sampler::{Ode, Request, Solver, trajectory, uniform_grid};
use meanflow_torch::{Tensor, recover};
use meanflow_train::Samples;

use super::served::Served;
use crate::api_error::ApiError;

/// Steps of the ODE between two times that are shown.
pub(super) const SUBSTEPS: usize = 4;

impl Served {
    /// Three rows of states at `times` equally spaced times from noise to data, one after the other: along the ODE, by Heun's method;
    /// along the straight line of one jump (M15); and where one jump from each state of the ODE lands.
    pub(super) fn paths(
        &self,
        seed: u64,
        class: Option<i64>,
        times: usize,
    ) -> Result<Samples, ApiError> {
        let model = &self.model;
        let request = Request {
            seeds: &[seed],
            labels: class.as_ref().map(std::slice::from_ref),
            grid: &uniform_grid(SUBSTEPS * (times - 1)),
            batch_size: 1,
        };
        let path = trajectory(model, &request, Solver::Ode(Ode::Fixed(&HEUN)))?;
        let states = recover("follow a sample", || {
            let shown = Tensor::arange_start_step(
                0,
                path.states.size()[1],
                SUBSTEPS as i64,
                (meanflow_torch::Kind::Int64, model.device()),
            );
            let ode = path
                .states
                .to_device(model.device())
                .index_select(1, &shown)
                .squeeze_dim(0);
            let falling = uniform_grid(times - 1);
            let labels = class.map(|class| vec![class; times]);
            let u = model.predict(&ode, &vec![0.0; times], &falling, labels.as_deref());
            let mut per_row = vec![1; ode.dim()];
            per_row[0] = -1;
            let t = Tensor::from_slice(&falling)
                .to_kind(ode.kind())
                .to_device(ode.device());
            let t = t.reshape(&per_row);
            let ahead = &ode - &t * &u;
            let (noise, landing) = (ode.narrow(0, 0, 1), ahead.narrow(0, 0, 1));
            let jump = &t * noise + (1.0 - &t) * landing;
            Ok::<_, meanflow_torch::TorchError>(Tensor::cat(&[ode, jump, ahead], 0))
        })?;
        Ok(Samples::from_tensor(model, &states)?)
    }
}
