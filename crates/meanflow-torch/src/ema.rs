//! Exponential moving averages of the parameters.

use crate::{Parameters, TorchError, shim};

/// Moves `average` towards `current`: `e := decay · e + (1 − decay) · p`.
///
/// # Errors
/// If libtorch refuses, which it does where the two are not those of one network.
pub fn update(average: &Parameters, current: &Parameters, decay: f64) -> Result<(), TorchError> {
    tch::no_grad(|| shim::foreach_lerp(&average.tensors(), &current.tensors(), 1.0 - decay))
}
