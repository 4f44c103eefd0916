//! Activation checkpointing: a block keeps its inputs only, and is computed again when its gradient is due.
//!
//! The tangent leaves nothing on the tape, so it is computed once, in the forward pass; what is computed again is the
//! block on plain tensors.

use meanflow_libtorch::{checkpoint as libtorch, done};
use tch::{Tensor, no_grad};

use crate::Dual;

/// `forward(block, inputs)` of two inputs, of whose intermediate values the tape keeps none. Value, tangent and gradients are those of
/// the plain call; there is no second derivative.
///
/// Without a tape it is the plain call.
pub(crate) fn checkpointed<B: Clone + Send + 'static>(
    block: &B,
    inputs: [&Dual; 2],
    forward: impl Fn(&B, [&Dual; 2]) -> Dual + Send + 'static,
) -> Dual {
    let recorded = inputs.iter().any(|input| input.primal().requires_grad());
    if !(recorded && libtorch::grad_enabled()) {
        return forward(block, inputs);
    }
    let (primal, tangent) = no_grad(|| forward(block, inputs)).into_parts();
    let again = block.clone();
    let body = move |inputs: [Tensor; 2]| {
        let plain = inputs.map(Dual::from);
        forward(&again, plain.each_ref()).into_parts().0
    };
    let primal = done(libtorch::checkpoint(
        primal,
        inputs.map(Dual::primal),
        Box::new(body),
    ));
    match tangent {
        Some(tangent) => Dual::new(primal, tangent).expect("value and tangent of one block"),
        None => primal.into(),
    }
}
