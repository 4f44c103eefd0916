//! Operations with kernels of our own, each beside the libtorch operations that it stands for.
//!
//! A kernel does in one pass over memory what would be several operations with a result each. None has a forward mode or
//! a second derivative: where one is taken, [`with_primitives_only`] leaves libtorch's own operations alone.

use std::cell::Cell;

use meanflow_libtorch::kernels::CudaKernels;
pub(crate) use meanflow_libtorch::kernels::{
    add_gated, add_gated_tangent, gelu, gelu_tangent, norm_modulate, norm_modulate_tangent,
    self_attention, self_attention_tangent, short_attention_tangent,
};
use meanflow_libtorch::{done, kernels as libtorch};
use tch::{Device, Kind, Tensor};

thread_local! {
    static PRIMITIVES_ONLY: Cell<bool> = const { Cell::new(false) };
}

/// Whether operations must be made of what libtorch can differentiate forward and twice.
pub(crate) fn primitives_only() -> bool {
    PRIMITIVES_ONLY.get()
}

/// Runs `body` with operations that libtorch can differentiate forward and twice; it cannot do so with our kernels, nor
/// with a fused attention kernel of its own.
pub fn with_primitives_only<T>(body: impl FnOnce() -> T) -> T {
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            PRIMITIVES_ONLY.set(self.0);
        }
    }
    let _restore = Restore(PRIMITIVES_ONLY.replace(true));
    body()
}

/// Whether there is a kernel for this tensor and it may be used.
pub(crate) fn serve(x: &Tensor) -> bool {
    x.device() == Device::Cpu
        && matches!(x.kind(), Kind::Float | Kind::Double)
        && x.numel() > 0
        && !primitives_only()
}

/// Whether norms with modulation and gated sums of these states `[B, N, D]` have a kernel, on the CPU or on a CUDA device.
pub(crate) fn serve_states(x: &Tensor) -> bool {
    let Device::Cuda(device) = x.device() else {
        return serve(x);
    };
    let width = x.size().last().copied().unwrap_or(0);
    x.kind() == Kind::Float
        && x.numel() > 0
        && !primitives_only()
        && CudaKernels::States(width).prepare(device).is_ok()
}

/// Whether products with what `parameter` is rounded to, if that is bfloat16, have gradients of our own.
pub(crate) fn serve_rounded(parameter: &Tensor, rounded: Kind) -> bool {
    let kind = parameter.kind();
    let has_kernels = || match parameter.device() {
        Device::Cpu => matches!(kind, Kind::Float | Kind::Double),
        Device::Cuda(device) => {
            kind == Kind::Float && CudaKernels::Matrices.prepare(device).is_ok()
        }
        _ => false,
    };
    rounded == Kind::BFloat16 && kind != rounded && !primitives_only() && has_kernels()
}

/// Why a CUDA device does without kernels of our own, by libtorch's operations alone; none where it has them.
pub fn missing_on(device: Device) -> Option<String> {
    let Device::Cuda(device) = device else {
        return None;
    };
    let missing = CudaKernels::Matrices.prepare(device).err()?;
    Some(format!("by libtorch's own operations: {missing}"))
}

/// The longest sequence whose attention is made head by head in the processor's cache.
const SHORT: i64 = 256;

/// Whether the attention of these packed projections `[B, N, 3 D]` has a kernel.
pub(crate) fn serve_attention(packed: &Tensor) -> bool {
    serve(packed) && packed.size()[1] <= SHORT
}

/// Whether the tangent of the attention of these packed projections `[B, N, 3 D]` has a kernel on a CUDA device.
pub(crate) fn serve_attention_tangent(packed: &Tensor, heads: i64) -> bool {
    let Device::Cuda(device) = packed.device() else {
        return false;
    };
    let size = packed.size();
    packed.kind() == Kind::BFloat16
        && size[1] <= libtorch::SHORT_ATTENTION
        && !primitives_only()
        && CudaKernels::ShortAttention(size[2] / (3 * heads))
            .prepare(device)
            .is_ok()
}

/// `x Wᵀ + b` over the last dimension.
pub(crate) fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Tensor {
    if serve(x) && x.kind() == Kind::Float {
        return done(libtorch::linear(x, weight, bias));
    }
    x.linear(weight, bias)
}

#[cfg(test)]
mod tests;
