//! The few libtorch functions that tch does not bind, behind safe signatures: the only `unsafe` of the workspace.
#![allow(unsafe_code)]

pub(crate) mod checkpoint;
pub(crate) mod graph;
pub(crate) mod host;
pub(crate) mod kernels;

use std::ffi::{CStr, CString, c_char};
use std::path::Path;

use tch::Tensor;
use torch_sys::C_tensor;

use crate::TorchError;

unsafe extern "C" {
    fn mf_free(message: *mut c_char);
    fn mf_level_enter(level: *mut u64) -> *mut c_char;
    fn mf_level_exit(level: u64) -> *mut c_char;
    fn mf_layer_norm_backward(
        out: *mut C_tensor,
        grad: *const C_tensor,
        input: *const C_tensor,
        mean: *const C_tensor,
        rstd: *const C_tensor,
        width: i64,
    ) -> *mut c_char;
    fn mf_group_norm_backward(
        out: *mut C_tensor,
        grad: *const C_tensor,
        input: *const C_tensor,
        mean: *const C_tensor,
        rstd: *const C_tensor,
        n: i64,
        c: i64,
        positions: i64,
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
    fn mf_foreach_lerp(
        this: *const *const C_tensor,
        end: *const *const C_tensor,
        count: usize,
        weight: f64,
    ) -> *mut c_char;
    fn mf_map_tensors();
    fn mf_set_tf32(allowed: bool);
    fn mf_tf32() -> bool;
    fn mf_keep_memory() -> *mut c_char;
    fn mf_load_library(path: *const c_char) -> *mut c_char;
}

/// Takes the message of a shim call, if there is one, and frees it.
fn check(operation: &'static str, message: *mut c_char) -> Result<(), TorchError> {
    if message.is_null() {
        return Ok(());
    }
    // SAFETY: the shim returns a NUL-terminated string that it gives away; it is freed once, here.
    let text = unsafe {
        let text = CStr::from_ptr(message).to_string_lossy().into_owned();
        mf_free(message);
        text
    };
    Err(TorchError::Libtorch {
        operation,
        message: text,
    })
}

fn handles(tensors: &[&Tensor]) -> Vec<*const C_tensor> {
    tensors.iter().map(|tensor| tensor.as_ptr()).collect()
}

/// Enters libtorch's forward-mode level and returns its index. It is global to the process and does not nest.
pub(crate) fn enter_level() -> Result<u64, TorchError> {
    let mut level = 0;
    // SAFETY: `level` outlives the call.
    check("enter forward-mode level", unsafe {
        mf_level_enter(&raw mut level)
    })?;
    Ok(level)
}

/// Leaves the level and drops the tangents that live on it.
pub(crate) fn exit_level(level: u64) -> Result<(), TorchError> {
    // SAFETY: no memory is passed.
    check("exit forward-mode level", unsafe { mf_level_exit(level) })
}

/// `∂L/∂input` of a layer norm over the last dimension without affine part.
///
/// The Jacobian of the normalisation is symmetric, so with a tangent in place of `grad` this is its
/// Jacobian-vector product.
pub(crate) fn layer_norm_backward(
    grad: &Tensor,
    input: &Tensor,
    mean: &Tensor,
    rstd: &Tensor,
) -> Result<Tensor, TorchError> {
    let width = input.size().last().copied().unwrap_or(1);
    let mut out = Tensor::new();
    // SAFETY: the handles are live tensors for the duration of the call.
    let message = unsafe {
        mf_layer_norm_backward(
            out.as_mut_ptr(),
            grad.as_ptr(),
            input.as_ptr(),
            mean.as_ptr(),
            rstd.as_ptr(),
            width,
        )
    };
    check("layer norm backward", message)?;
    Ok(out)
}

/// `∂L/∂input` of a group norm without affine part; `input` is `[n, c, …]`, `mean` and `rstd` are `[n, groups]`.
pub(crate) fn group_norm_backward(
    grad: &Tensor,
    input: &Tensor,
    mean: &Tensor,
    rstd: &Tensor,
    groups: i64,
) -> Result<Tensor, TorchError> {
    let size = input.size();
    let positions = size[2..].iter().product();
    let mut out = Tensor::new();
    // SAFETY: the handles are live tensors for the duration of the call.
    let message = unsafe {
        mf_group_norm_backward(
            out.as_mut_ptr(),
            grad.as_ptr(),
            input.as_ptr(),
            mean.as_ptr(),
            rstd.as_ptr(),
            size[0],
            size[1],
            positions,
            groups,
        )
    };
    check("group norm backward", message)?;
    Ok(out)
}

/// Sets every element of `tensor` to 1 with this probability and to 0 otherwise, from a generator of its own.
pub(crate) fn fill_bernoulli(
    tensor: &Tensor,
    probability: f64,
    seed: u64,
) -> Result<(), TorchError> {
    let mut handle = tensor.shallow_clone();
    // SAFETY: the handle is live for the duration of the call.
    check("draw a mask", unsafe {
        mf_fill_bernoulli(handle.as_mut_ptr(), probability, seed)
    })
}

/// The tensors that one Adam step reads and writes, in one order.
pub(crate) struct AdamTensors<'a> {
    pub(crate) parameters: &'a [&'a Tensor],
    pub(crate) gradients: &'a [&'a Tensor],
    pub(crate) first: &'a [&'a Tensor],
    pub(crate) second: &'a [&'a Tensor],
    pub(crate) steps: &'a [&'a Tensor],
    /// The learning rate, a scalar of f32 beside the parameters.
    pub(crate) rate: &'a Tensor,
    /// 1 where nothing is to be changed, 0 otherwise; read on the device.
    pub(crate) skip: Option<&'a Tensor>,
}

/// The numbers of one Adam step.
pub(crate) struct AdamNumbers {
    pub(crate) beta1: f64,
    pub(crate) beta2: f64,
    pub(crate) weight_decay: f64,
    pub(crate) epsilon: f64,
    /// Weight decay apart from the gradient: AdamW.
    pub(crate) decoupled: bool,
}

/// One fused Adam or AdamW step; `steps` holds the count of steps, this one included.
pub(crate) fn fused_adam(tensors: &AdamTensors, numbers: &AdamNumbers) -> Result<(), TorchError> {
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
            tensors.skip.map_or(std::ptr::null(), Tensor::as_ptr),
        )
    };
    check("fused Adam", message)
}

/// `this := this + weight (end − this)` for every pair.
pub(crate) fn foreach_lerp(
    this: &[&Tensor],
    end: &[&Tensor],
    weight: f64,
) -> Result<(), TorchError> {
    assert_eq!(this.len(), end.len(), "as many averages as parameters");
    let (this, end) = (handles(this), handles(end));
    // SAFETY: both lists have the same number of live handles.
    check("foreach lerp", unsafe {
        mf_foreach_lerp(this.as_ptr(), end.as_ptr(), this.len(), weight)
    })
}

/// From now on every tensor is mapped on its own and given back when freed.
pub(crate) fn map_tensors() {
    // SAFETY: no memory is passed, and live memory is not touched.
    unsafe { mf_map_tensors() }
}

/// Whether products of f32 on a CUDA device may use TF32, for the whole process.
pub(crate) fn set_tf32(allowed: bool) {
    // SAFETY: sets flags of libtorch's context.
    unsafe { mf_set_tf32(allowed) }
}

/// What was set last; libtorch starts with TF32 in convolutions only, which is no.
pub(crate) fn tf32() -> bool {
    // SAFETY: reads flags of libtorch's context.
    unsafe { mf_tf32() }
}

/// From now on freed tensors on the CPU are kept for tensors of their size.
pub(crate) fn keep_memory() -> Result<(), TorchError> {
    // SAFETY: no memory is passed; blocks of the allocator before carry their own deleter.
    check("keep memory", unsafe { mf_keep_memory() })
}

/// Loads a shared library with global symbols.
pub(crate) fn load_library(path: &Path) -> Result<(), TorchError> {
    let name = CString::new(path.as_os_str().as_encoded_bytes()).map_err(|error| {
        TorchError::Libtorch {
            operation: "load library",
            message: error.to_string(),
        }
    })?;
    // SAFETY: `name` is NUL-terminated and outlives the call.
    check("load library", unsafe { mf_load_library(name.as_ptr()) })
}
