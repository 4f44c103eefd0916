//! Operations that libtorch has and tch does not bind.

use std::ffi::c_char;
use std::ptr;

use tch::{Device, Tensor};
use torch_sys::C_tensor;

use crate::LibtorchError;
use crate::call::{check, handles};
use crate::kernels::CudaKernels;

unsafe extern "C" {
    fn mf_layer_norm_backward(
        out: *mut C_tensor,
        grad: *const C_tensor,
        input: *const C_tensor,
        mean: *const C_tensor,
        rstd: *const C_tensor,
    ) -> *mut c_char;
    fn mf_group_norm_backward(
        out: *mut C_tensor,
        grad: *const C_tensor,
        input: *const C_tensor,
        mean: *const C_tensor,
        rstd: *const C_tensor,
        groups: i64,
    ) -> *mut c_char;
    fn mf_fill_bernoulli(tensor: *mut C_tensor, probability: f64, seed: u64) -> *mut c_char;
    fn mf_fused_adam(
        parameters: *const *const C_tensor,
        gradients: *const *const C_tensor,
        first: *const *const C_tensor,
        second: *const *const C_tensor,
        steps: *const *const C_tensor,
        count: usize,
        rate: *const C_tensor,
        beta1: f64,
        beta2: f64,
        weight_decay: f64,
        epsilon: f64,
        decoupled: bool,
        skip: *const C_tensor,
    ) -> *mut c_char;
    fn mf_ema_update(
        averages: *const *const C_tensor,
        parameters: *const *const C_tensor,
        count: usize,
        weight: *const C_tensor,
        is_finite: *const C_tensor,
        cuda_kernels: bool,
    ) -> *mut c_char;
    fn mf_norms(
        out: *const *mut C_tensor,
        tensors: *const *const C_tensor,
        count: usize,
    ) -> *mut c_char;
    fn mf_take_gradients(
        out: *const *mut C_tensor,
        parameters: *const *const C_tensor,
        count: usize,
    ) -> *mut c_char;
}

/// `∂L/∂input` of a layer norm over the last dimension without affine part.
///
/// The Jacobian of the normalisation is symmetric, so with a tangent in place of `grad` this is its
/// Jacobian-vector product.
pub fn layer_norm_backward(
    grad: &Tensor,
    input: &Tensor,
    mean: &Tensor,
    rstd: &Tensor,
) -> Result<Tensor, LibtorchError> {
    let mut out = Tensor::new();
    // SAFETY: the handles are live tensors for the duration of the call.
    let message = unsafe {
        mf_layer_norm_backward(
            out.as_mut_ptr(),
            grad.as_ptr(),
            input.as_ptr(),
            mean.as_ptr(),
            rstd.as_ptr(),
        )
    };
    check("layer norm backward", message)?;
    Ok(out)
}

/// `∂L/∂input` of a group norm without affine part; `input` is `[n, c, …]`, `mean` and `rstd` are `[n, groups]`.
pub fn group_norm_backward(
    grad: &Tensor,
    input: &Tensor,
    mean: &Tensor,
    rstd: &Tensor,
    groups: i64,
) -> Result<Tensor, LibtorchError> {
    let mut out = Tensor::new();
    // SAFETY: the handles are live tensors for the duration of the call.
    let message = unsafe {
        mf_group_norm_backward(
            out.as_mut_ptr(),
            grad.as_ptr(),
            input.as_ptr(),
            mean.as_ptr(),
            rstd.as_ptr(),
            groups,
        )
    };
    check("group norm backward", message)?;
    Ok(out)
}

/// Sets every element of `tensor` to 1 with this probability and to 0 otherwise, from a generator of its own.
pub fn fill_bernoulli(tensor: &Tensor, probability: f64, seed: u64) -> Result<(), LibtorchError> {
    let mut handle = tensor.shallow_clone();
    // SAFETY: the handle is live for the duration of the call.
    check("draw a mask", unsafe {
        mf_fill_bernoulli(handle.as_mut_ptr(), probability, seed)
    })
}

/// The tensors that one Adam step reads and writes: one of each kind a parameter, in one order.
#[derive(Debug)]
pub struct AdamTensors<'a> {
    /// What moves.
    pub parameters: &'a [&'a Tensor],
    /// Their gradients.
    pub gradients: &'a [&'a Tensor],
    /// Running means of the gradients.
    pub first: &'a [&'a Tensor],
    /// Running means of their squares.
    pub second: &'a [&'a Tensor],
    /// The count of steps, this one included: scalars of f32 beside the parameters.
    pub steps: &'a [&'a Tensor],
    /// The learning rate, a scalar of f32 beside the parameters.
    pub rate: &'a Tensor,
    /// 1 where nothing is to be changed, 0 otherwise; read on the device.
    pub skip: Option<&'a Tensor>,
}

/// The numbers of one Adam step.
#[derive(Clone, Copy, Debug)]
pub struct AdamNumbers {
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// The share of a parameter that a step of rate 1 takes away.
    pub weight_decay: f64,
    /// Added to the root of the second moment.
    pub epsilon: f64,
    /// Weight decay apart from the gradient: AdamW.
    pub decoupled: bool,
}

/// One fused Adam or AdamW step; `steps` holds the count of steps, this one included.
pub fn fused_adam(tensors: &AdamTensors, numbers: &AdamNumbers) -> Result<(), LibtorchError> {
    let count = tensors.parameters.len();
    let lists = [
        tensors.gradients,
        tensors.first,
        tensors.second,
        tensors.steps,
    ];
    assert!(
        lists.iter().all(|list| list.len() == count),
        "one tensor of each kind a parameter"
    );
    let (parameters, gradients) = (handles(tensors.parameters), handles(tensors.gradients));
    let (first, second) = (handles(tensors.first), handles(tensors.second));
    let steps = handles(tensors.steps);
    // SAFETY: every list has `count` live handles; `rate` is a live handle, and `skip` one or null.
    let message = unsafe {
        mf_fused_adam(
            parameters.as_ptr(),
            gradients.as_ptr(),
            first.as_ptr(),
            second.as_ptr(),
            steps.as_ptr(),
            count,
            tensors.rate.as_ptr(),
            numbers.beta1,
            numbers.beta2,
            numbers.weight_decay,
            numbers.epsilon,
            numbers.decoupled,
            tensors.skip.map_or(ptr::null(), Tensor::as_ptr),
        )
    };
    check("fused Adam", message)
}

/// `e := e + weight (p − e)` for every pair of an average and a parameter, unless `is_finite`, a boolean beside them, is
/// false. `weight` is a scalar of their type beside them.
///
/// # Errors
/// If sizes or types differ.
pub fn ema_update(
    averages: &[&Tensor],
    parameters: &[&Tensor],
    weight: &Tensor,
    is_finite: &Tensor,
) -> Result<(), LibtorchError> {
    assert_eq!(
        averages.len(),
        parameters.len(),
        "as many averages as parameters"
    );
    let cuda_kernels = match weight.device() {
        Device::Cuda(device) => CudaKernels::Matrices.prepare(device).is_ok(),
        _ => false,
    };
    let (averages, parameters) = (handles(averages), handles(parameters));
    // SAFETY: both lists have the same number of live handles; weight and flag are live.
    check("update a moving average", unsafe {
        mf_ema_update(
            averages.as_ptr(),
            parameters.as_ptr(),
            averages.len(),
            weight.as_ptr(),
            is_finite.as_ptr(),
            cuda_kernels,
        )
    })
}

/// The Euclidean norm of every tensor, scalars on their device.
///
/// # Errors
/// If libtorch refuses.
pub fn norms(tensors: &[&Tensor]) -> Result<Vec<Tensor>, LibtorchError> {
    let mut norms: Vec<Tensor> = tensors.iter().map(|_| Tensor::new()).collect();
    let out: Vec<*mut C_tensor> = norms.iter_mut().map(Tensor::as_mut_ptr).collect();
    let tensors = handles(tensors);
    // SAFETY: both lists have the same number of live handles, and those of `out` are not used otherwise.
    check("take norms", unsafe {
        mf_norms(out.as_ptr(), tensors.as_ptr(), tensors.len())
    })?;
    Ok(norms)
}

/// The gradients that these parameters carry, which carry none afterwards; undefined for a parameter that had none.
///
/// # Errors
/// If libtorch refuses.
pub fn take_gradients(parameters: &[&Tensor]) -> Result<Vec<Tensor>, LibtorchError> {
    let mut gradients: Vec<Tensor> = parameters.iter().map(|_| Tensor::new()).collect();
    let out: Vec<*mut C_tensor> = gradients.iter_mut().map(Tensor::as_mut_ptr).collect();
    let parameters = handles(parameters);
    // SAFETY: both lists have the same number of live handles, and those of `out` are not used otherwise.
    check("take gradients", unsafe {
        mf_take_gradients(out.as_ptr(), parameters.as_ptr(), parameters.len())
    })?;
    Ok(gradients)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Kind;

    /// libtorch's kernels for the CPU take sizes for granted: the border does not.
    #[test]
    fn sizes_that_do_not_fit_are_refused() {
        let zeros = |size: &[i64]| Tensor::zeros(size, (Kind::Float, Device::Cpu));
        let (x, short, one) = (zeros(&[4, 8]), zeros(&[3]), zeros(&[]));
        assert!(layer_norm_backward(&x, &x, &zeros(&[4]), &short).is_err());
        assert!(layer_norm_backward(&short, &x, &zeros(&[4]), &zeros(&[4])).is_err());
        assert!(group_norm_backward(&x, &x, &short, &zeros(&[8]), 2).is_err());
        let step = |gradient: &Tensor, moment: &Tensor, steps: &Tensor, rate: &Tensor| {
            let tensors = AdamTensors {
                parameters: &[&x],
                gradients: &[gradient],
                first: &[moment],
                second: &[&x.copy()],
                steps: &[steps],
                rate,
                skip: None,
            };
            let numbers = AdamNumbers {
                beta1: 0.9,
                beta2: 0.95,
                weight_decay: 0.0,
                epsilon: 1e-8,
                decoupled: false,
            };
            fused_adam(&tensors, &numbers)
        };
        let same = || x.copy();
        assert!(step(&short, &same(), &one, &one).is_err());
        assert!(step(&Tensor::new(), &same(), &one, &one).is_err());
        assert!(step(&same(), &same().to_kind(Kind::Double), &one, &one).is_err());
        assert!(step(&same(), &same(), &short, &one).is_err());
        assert!(step(&same(), &same(), &one, &one.to_kind(Kind::Double)).is_err());
        step(&same(), &same(), &(&one + 1.0), &one).unwrap();
        let (weight, yes) = (Tensor::from(0.5_f32), Tensor::from(true));
        assert!(ema_update(&[&x], &[&short], &weight, &yes).is_err());
        assert!(ema_update(&[&x], &[&same()], &weight, &weight).is_err());
        ema_update(&[&x], &[&same()], &weight, &yes).unwrap();
    }
}
