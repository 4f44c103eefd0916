//! The equivalent of `torch.func.jvp`: forward mode of any closure over tensors, through libtorch's own levels.

use meanflow_libtorch::{ForwardLevel, LibtorchError};
use tch::Tensor;

use crate::TorchError;
use crate::dual::kernels;

/// Value and directional derivative of `function` at `primals` along `tangents`.
///
/// The value stays on the tape: it can be differentiated afterwards as if `function` had been called alone. The
/// derivative carries a tape too if the inputs or the closure's parameters require gradients; detach it, or call under
/// [`tch::no_grad`], where it is not needed. Outputs that do not depend on the inputs have a zero derivative.
///
/// libtorch's level is global to the process and does not nest: calls from several threads wait for each other.
///
/// # Errors
/// If the lists differ in length or a pair in shape or type, or if called from inside another `jvp`.
///
/// # Panics
/// With libtorch's message, out of the closure, where libtorch has no forward formula for an operation.
///
/// ```
/// use meanflow_torch::{Tensor, jvp};
/// let x = Tensor::from_slice(&[1.0_f64, 2.0]);
/// let dx = Tensor::from_slice(&[1.0_f64, 0.5]);
/// let (y, dy) = jvp(|x| vec![&x[0] * &x[0]], &[x], &[dx])?;
/// assert_eq!(y[0].double_value(&[1]), 4.0);
/// assert_eq!(dy[0].double_value(&[1]), 2.0);
/// # Ok::<(), meanflow_torch::TorchError>(())
/// ```
pub fn jvp(
    function: impl FnOnce(&[Tensor]) -> Vec<Tensor>,
    primals: &[Tensor],
    tangents: &[Tensor],
) -> Result<(Vec<Tensor>, Vec<Tensor>), TorchError> {
    check(primals, tangents)?;
    let level = ForwardLevel::enter()?;
    let index = level.index();
    let inputs = primals
        .iter()
        .zip(tangents)
        .map(|(x, dx)| Tensor::f_internal_make_dual(x, dx, index))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| libtorch(&error))?;
    let outputs = kernels::with_primitives_only(|| function(&inputs));
    let mut values = Vec::with_capacity(outputs.len());
    let mut derivatives = Vec::with_capacity(outputs.len());
    for output in &outputs {
        let (value, derivative) =
            Tensor::f_internal_unpack_dual(output, index).map_err(|error| libtorch(&error))?;
        derivatives.push(if derivative.defined() {
            derivative
        } else {
            value.zeros_like()
        });
        values.push(value);
    }
    Ok((values, derivatives))
}

fn libtorch(error: &tch::TchError) -> TorchError {
    LibtorchError::call("differentiate forward", error).into()
}

fn check(primals: &[Tensor], tangents: &[Tensor]) -> Result<(), TorchError> {
    if primals.len() != tangents.len() {
        return Err(TorchError::Argument {
            what: "tangents",
            expected: format!("{} tensors, one for each primal", primals.len()),
            got: tangents.len().to_string(),
        });
    }
    for (position, (x, dx)) in primals.iter().zip(tangents).enumerate() {
        if x.size() != dx.size() || x.kind() != dx.kind() {
            return Err(TorchError::Shape {
                what: format!("tangent {position} of type {:?}", dx.kind()),
                expected: format!("{:?} of type {:?}, as its primal", x.size(), x.kind()),
                got: dx.size(),
            });
        }
    }
    Ok(())
}
