//! The sampler as a record of libtorch's operations, for other programs that compute it.

use meanflow_core::identity;
use meanflow_libtorch::recover;
use meanflow_libtorch::trace::{self, Trace};
use tch::{Kind, Tensor, no_grad};

use super::grid;
use crate::dual::kernels;
use crate::model::condition::Conditioning;
use crate::tensor::{Rows, per_row};
use crate::{Dual, Model, TorchError};

/// A record with the names of its inputs.
#[derive(Debug)]
pub struct Traced {
    /// The operations.
    pub trace: Trace,
    /// Its inputs in their order: `noise`, of a model with classes `labels`, and the parameters with their names.
    pub inputs: Vec<(String, Tensor)>,
    /// How many of the inputs change from one evaluation to another; the parameters follow them.
    pub free: usize,
}

/// Records the jumps from `rows` noises to samples over the times of `grid`, by operations of libtorch alone.
///
/// The times are those of all rows together: what a network makes of them alone it makes once.
///
/// # Errors
/// If the grid does not decrease from 1 to 0, or the network cannot take one time for several rows.
pub fn trace(model: &Model, rows: i64, grid: &[f64]) -> Result<Traced, TorchError> {
    grid::check(grid)?;
    let (kind, device) = (model.kind(), model.device());
    let size = [&[rows], &model.config().shape[..]].concat();
    let noise = Tensor::zeros(size, (kind, device));
    let labels = (model.config().classes > 0).then(|| Tensor::zeros([rows], (Kind::Int64, device)));
    let mut inputs = vec![("noise".to_owned(), noise.shallow_clone())];
    inputs.extend(
        labels
            .iter()
            .map(|labels| ("labels".to_owned(), labels.shallow_clone())),
    );
    let free = inputs.len();
    inputs.extend(model.parameters().named());
    // Made before anything is recorded: constants.
    let times: Vec<Dual> = grid
        .iter()
        .map(|time| per_row(&[*time], &noise).into())
        .collect();
    let tensors: Vec<&Tensor> = inputs.iter().map(|(_, tensor)| tensor).collect();
    let jumps = || {
        let mut z = Rows(noise * model.config().schedule.prior_scale());
        for (place, step) in grid.windows(2).enumerate() {
            let condition = Conditioning::of_labels(labels.as_ref().map(Tensor::shallow_clone));
            let state = z.0.shallow_clone().into();
            let u = model.forward(&state, &times[place + 1], &times[place], &condition);
            z = identity::jump(&z, &Rows(u.into_parts().0), &[step[0] - step[1]]);
        }
        Ok::<_, TorchError>(vec![z.0])
    };
    let trace = recover("record the sampler", || {
        kernels::with_primitives_only(|| no_grad(|| trace::trace(&tensors, jumps)))
    })?;
    Ok(Traced {
        trace,
        inputs,
        free,
    })
}
