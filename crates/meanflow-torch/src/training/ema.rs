//! Exponential moving averages of the parameters.

use meanflow_libtorch::operations;
use tch::{Tensor, no_grad};

use crate::{Parameters, TorchError};

/// Moves `average` towards `current`: `e := e + weight (p − e)`. `weight`, 1 − decay, is a scalar of the parameters' type on
/// their device.
///
/// Nothing changes where `is_finite`, a boolean on the device, is false, whatever the parameters are. Both are read
/// there: nothing waits for them.
///
/// # Errors
/// If libtorch refuses, which it does where the two are not those of one network.
pub fn update(
    average: &Parameters,
    current: &Parameters,
    weight: &Tensor,
    is_finite: &Tensor,
) -> Result<(), TorchError> {
    let (average, current) = (average.tensors(), current.tensors());
    no_grad(|| {
        Ok(operations::ema_update(
            &average, &current, weight, is_finite,
        )?)
    })
}
