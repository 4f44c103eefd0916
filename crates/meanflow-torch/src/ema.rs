//! Exponential moving averages of the parameters.

use meanflow_libtorch::operations;
use tch::{Tensor, no_grad};

use crate::{Parameters, TorchError};

/// Moves `average` towards `current`: `e := decay · e + (1 − decay) · p`.
///
/// # Errors
/// If libtorch refuses, which it does where the two are not those of one network.
pub fn update(average: &Parameters, current: &Parameters, decay: f64) -> Result<(), TorchError> {
    let (average, current) = (average.tensors(), current.tensors());
    no_grad(|| Ok(operations::foreach_lerp(&average, &current, 1.0 - decay)?))
}

/// `e := e + weight · (p − e)`, unless `bad`, a boolean on the device, is true: then the average stays, whatever the
/// parameters are. `weight`, 1 − decay, is a scalar of the parameters' type on the device. Nobody waits to know either.
pub fn update_unless(bad: &Tensor, average: &Parameters, current: &Parameters, weight: &Tensor) {
    no_grad(|| {
        for (average, current) in average.tensors().into_iter().zip(current.tensors()) {
            let end = average.where_self(bad, current);
            let _ = average.shallow_clone().lerp_tensor_(&end, weight);
        }
    });
}
