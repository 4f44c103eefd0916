//! Operations of our own: the kernels of `cpp/kernels` on the CPU, in f32 or f64, and some of them on CUDA devices, those of
//! `cpp/cuda`, on states in f32 with products in f32 or bfloat16.

use std::collections::BTreeMap;
use std::ffi::{c_char, c_int};
use std::ptr;
use std::sync::{Mutex, PoisonError};

use tch::{Kind, Tensor};
use torch_sys::C_tensor;

use crate::LibtorchError;
use crate::call::check;

unsafe extern "C" {
    fn mf_linear(
        out: *mut C_tensor,
        x: *const C_tensor,
        weight: *const C_tensor,
        bias: *const C_tensor,
    ) -> *mut c_char;
    fn mf_gelu(out: *mut C_tensor, x: *const C_tensor) -> *mut c_char;
    fn mf_gelu_tangent(out: *mut C_tensor, x: *const C_tensor, dx: *const C_tensor) -> *mut c_char;
    fn mf_norm_modulate(
        out: *mut C_tensor,
        means: *mut C_tensor,
        rstds: *mut C_tensor,
        x: *const C_tensor,
        shift: *const C_tensor,
        scale: *const C_tensor,
        epsilon: f64,
        bf16: bool,
    ) -> *mut c_char;
    fn mf_norm_modulate_tangent(
        out: *mut C_tensor,
        dx: *const C_tensor,
        x: *const C_tensor,
        dshift: *const C_tensor,
        dscale: *const C_tensor,
        scale: *const C_tensor,
        means: *const C_tensor,
        rstds: *const C_tensor,
        bf16: bool,
    ) -> *mut c_char;
    fn mf_cuda_kernels(device: i64, subject: c_int, size: i64) -> *mut c_char;
    fn mf_short_attention_tangent(
        out: *mut C_tensor,
        packed: *const C_tensor,
        dpacked: *const C_tensor,
        heads: i64,
    ) -> *mut c_char;
    fn mf_rounded_linear(
        out: *mut C_tensor,
        x: *const C_tensor,
        weight: *const C_tensor,
        bias: *const C_tensor,
        rounded_weight: *const C_tensor,
        rounded_bias: *const C_tensor,
    ) -> *mut c_char;
    fn mf_add_gated(
        out: *mut C_tensor,
        x: *const C_tensor,
        gate: *const C_tensor,
        y: *const C_tensor,
    ) -> *mut c_char;
    fn mf_add_gated_tangent(
        out: *mut C_tensor,
        dx: *const C_tensor,
        gate: *const C_tensor,
        dgate: *const C_tensor,
        y: *const C_tensor,
        dy: *const C_tensor,
    ) -> *mut c_char;
    fn mf_attention(
        out: *mut C_tensor,
        logs: *mut C_tensor,
        packed: *const C_tensor,
        heads: i64,
    ) -> *mut c_char;
    fn mf_attention_tangent(
        out: *mut C_tensor,
        packed: *const C_tensor,
        logs: *const C_tensor,
        dpacked: *const C_tensor,
    ) -> *mut c_char;
}

fn optional(tensor: Option<&Tensor>) -> *const C_tensor {
    tensor.map_or(ptr::null(), Tensor::as_ptr)
}

/// `x Wᵀ + b` over the last dimension by oneDNN, f32, on the tape; weight `[out, in]`, bias `[out]`.
pub fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor, LibtorchError> {
    let mut out = Tensor::new();
    // SAFETY: the handles are live tensors for the duration of the call; a missing bias is null.
    let message = unsafe {
        mf_linear(
            out.as_mut_ptr(),
            x.as_ptr(),
            weight.as_ptr(),
            optional(bias),
        )
    };
    check("linear", message)?;
    Ok(out)
}

/// An affine map whose parameters were rounded to bfloat16 for its product.
#[derive(Debug)]
pub struct RoundedLinear<'a> {
    /// The parameter `[out, in]`; in f32 on a CUDA device.
    pub weight: &'a Tensor,
    /// The parameter `[out]`, of the same kind.
    pub bias: &'a Tensor,
    /// The weight in bfloat16.
    pub rounded_weight: &'a Tensor,
    /// The bias in bfloat16, which the CPU does not use.
    pub rounded_bias: &'a Tensor,
}

impl RoundedLinear<'_> {
    /// `x Wᵀ + b` over the last dimension of `x`, on the tape; gradients reach the parameters in their kind, without being
    /// rounded on the way.
    ///
    /// Where `x` is of another kind it is rounded here. The result is in bfloat16 on a CUDA device, and in the kind of the
    /// parameters on the CPU.
    ///
    /// # Errors
    /// If the kinds, devices or sizes are others.
    pub fn apply(&self, x: &Tensor) -> Result<Tensor, LibtorchError> {
        self.call(x, [self.bias.as_ptr(), self.rounded_bias.as_ptr()])
    }

    /// `x Wᵀ`: what [`apply`](Self::apply) does to a tangent.
    ///
    /// # Errors
    /// If the kinds, devices or sizes are others.
    pub fn apply_without_bias(&self, x: &Tensor) -> Result<Tensor, LibtorchError> {
        self.call(x, [ptr::null(); 2])
    }

    fn call(&self, x: &Tensor, biases: [*const C_tensor; 2]) -> Result<Tensor, LibtorchError> {
        let mut out = Tensor::new();
        // SAFETY: the handles are live tensors for the duration of the call, or null where there is none.
        let message = unsafe {
            mf_rounded_linear(
                out.as_mut_ptr(),
                x.as_ptr(),
                self.weight.as_ptr(),
                biases[0],
                self.rounded_weight.as_ptr(),
                biases[1],
            )
        };
        check("multiply by rounded factors", message)?;
        Ok(out)
    }
}

/// GELU in its tanh form, on the tape.
pub fn gelu(x: &Tensor) -> Result<Tensor, LibtorchError> {
    let mut out = Tensor::new();
    // SAFETY: the handles are live tensors for the duration of the call.
    check("gelu", unsafe { mf_gelu(out.as_mut_ptr(), x.as_ptr()) })?;
    Ok(out)
}

/// `gelu'(x) dx` of two tensors of one shape.
pub fn gelu_tangent(x: &Tensor, dx: &Tensor) -> Result<Tensor, LibtorchError> {
    let mut out = Tensor::new();
    // SAFETY: the handles are live tensors for the duration of the call.
    check("gelu tangent", unsafe {
        mf_gelu_tangent(out.as_mut_ptr(), x.as_ptr(), dx.as_ptr())
    })?;
    Ok(out)
}

/// Kernels of CUDA devices, compiled together when first used.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum CudaKernels {
    /// [`norm_modulate`], [`add_gated`] and their tangents on states in f32, whose rows have this many numbers.
    States(i64),
    /// [`RoundedLinear`], and averages of parameters in f32.
    Matrices,
    /// [`short_attention_tangent`] with heads of this many numbers.
    ShortAttention(i64),
}

impl CudaKernels {
    /// Compiles them for a device. It takes about two seconds the first time, and nothing from then on.
    ///
    /// # Errors
    /// Why there are none: a size that they are not written for, or CUDA's compiler is not found or refuses.
    pub fn prepare(self, device: usize) -> Result<(), LibtorchError> {
        static ASKED: Mutex<BTreeMap<(usize, CudaKernels), Result<(), LibtorchError>>> =
            Mutex::new(BTreeMap::new());
        let mut asked = ASKED.lock().unwrap_or_else(PoisonError::into_inner);
        let answer = asked
            .entry((device, self))
            .or_insert_with(|| self.compile(device));
        answer.clone()
    }

    fn compile(self, device: usize) -> Result<(), LibtorchError> {
        const OPERATION: &str = "compile kernels";
        // In the order of cpp/cuda/programs.h.
        let (subject, size, fits) = match self {
            Self::States(width) => (0, width, width % 4 == 0 && (4..=4096).contains(&width)),
            Self::Matrices => (1, 0, true),
            Self::ShortAttention(head) => (2, head, head % 2 == 0 && (2..=80).contains(&head)),
        };
        if !fits {
            let problem = format!(
                "expected rows of a multiple of 4 numbers up to 4096, or heads of an even number up to 80, got {self:?}"
            );
            return Err(LibtorchError::call(OPERATION, problem));
        }
        // SAFETY: no memory is passed.
        check(OPERATION, unsafe {
            mf_cuda_kernels(device as i64, subject, size)
        })
    }
}

/// The most tokens of [`short_attention_tangent`].
pub const SHORT_ATTENTION: i64 = 64;

/// The tangent of softmax attention of packed queries, keys and values `[B, N, 3 D]` in bfloat16 on a CUDA device, along `dpacked` of
/// their shape; `N` is at most [`SHORT_ATTENTION`].
pub fn short_attention_tangent(
    packed: &Tensor,
    dpacked: &Tensor,
    heads: i64,
) -> Result<Tensor, LibtorchError> {
    let mut out = Tensor::new();
    // SAFETY: the handles are live tensors for the duration of the call.
    check("tangent of attention", unsafe {
        mf_short_attention_tangent(out.as_mut_ptr(), packed.as_ptr(), dpacked.as_ptr(), heads)
    })?;
    Ok(out)
}

/// Whether a result of this kind is bfloat16, for an input of another.
fn is_bf16(kind: Kind, x: &Tensor) -> Result<bool, LibtorchError> {
    match kind {
        Kind::BFloat16 => Ok(true),
        kind if kind == x.kind() => Ok(false),
        _ => Err(LibtorchError::call(
            "norm and modulation",
            format!(
                "expected a result of {:?} or bfloat16, asked for {kind:?}",
                x.kind()
            ),
        )),
    }
}

/// A normalised and modulated tensor with the statistics of its rows.
#[derive(Debug)]
pub struct Normalized {
    /// `norm(x) (1 + scale) + shift`, `[B, N, D]`.
    pub value: Tensor,
    /// The mean of every row of numbers, `[B, N]`.
    pub means: Tensor,
    /// One over its deviation, `[B, N]`.
    pub rstds: Tensor,
}

/// `norm(x) (1 + scale) + shift` on the tape; `x [B, N, D]`, `shift` and `scale` `[B, 1, D]`. The result is of this kind: that of
/// `x`, or bfloat16 of a state in f32 on a CUDA device.
pub fn norm_modulate(
    x: &Tensor,
    shift: &Tensor,
    scale: &Tensor,
    epsilon: f64,
    kind: Kind,
) -> Result<Normalized, LibtorchError> {
    let [mut value, mut means, mut rstds] = [Tensor::new(), Tensor::new(), Tensor::new()];
    // SAFETY: the handles are live tensors for the duration of the call.
    let message = unsafe {
        mf_norm_modulate(
            value.as_mut_ptr(),
            means.as_mut_ptr(),
            rstds.as_mut_ptr(),
            x.as_ptr(),
            shift.as_ptr(),
            scale.as_ptr(),
            epsilon,
            is_bf16(kind, x)?,
        )
    };
    check("norm and modulation", message)?;
    Ok(Normalized {
        value,
        means,
        rstds,
    })
}

/// The tangent of [`norm_modulate`], of the same kind, in the rows of `x [k, N, D]`; what does not move has none.
pub fn norm_modulate_tangent(
    [dx, dshift, dscale]: [Option<&Tensor>; 3],
    x: &Tensor,
    scale: &Tensor,
    statistics: &Normalized,
    kind: Kind,
) -> Result<Tensor, LibtorchError> {
    let mut out = Tensor::new();
    // SAFETY: the handles are live tensors for the duration of the call; a missing tangent is null.
    let message = unsafe {
        mf_norm_modulate_tangent(
            out.as_mut_ptr(),
            optional(dx),
            x.as_ptr(),
            optional(dshift),
            optional(dscale),
            scale.as_ptr(),
            statistics.means.as_ptr(),
            statistics.rstds.as_ptr(),
            is_bf16(kind, x)?,
        )
    };
    check("tangent of norm and modulation", message)?;
    Ok(out)
}

/// `x + gate y` on the tape; `x` and `y` `[B, N, D]`, `gate` `[B, 1, D]`. On a CUDA device `y` may be bfloat16.
pub fn add_gated(x: &Tensor, gate: &Tensor, y: &Tensor) -> Result<Tensor, LibtorchError> {
    let mut out = Tensor::new();
    // SAFETY: the handles are live tensors for the duration of the call.
    check("gated sum", unsafe {
        mf_add_gated(out.as_mut_ptr(), x.as_ptr(), gate.as_ptr(), y.as_ptr())
    })?;
    Ok(out)
}

/// `dx + dgate y + gate dy` in the rows of `y [k, N, D]`; what does not move has no tangent.
pub fn add_gated_tangent(
    [dx, dgate, dy]: [Option<&Tensor>; 3],
    gate: &Tensor,
    y: &Tensor,
) -> Result<Tensor, LibtorchError> {
    let mut out = Tensor::new();
    // SAFETY: the handles are live tensors for the duration of the call; a missing tangent is null.
    let message = unsafe {
        mf_add_gated_tangent(
            out.as_mut_ptr(),
            optional(dx),
            gate.as_ptr(),
            optional(dgate),
            y.as_ptr(),
            optional(dy),
        )
    };
    check("tangent of a gated sum", message)?;
    Ok(out)
}

/// The result of attention, with what its tangent needs of the forward pass.
#[derive(Debug)]
pub struct SelfAttention {
    /// The values, `[B, N, D]`.
    pub value: Tensor,
    /// The logarithm of every row's sum of exponentials, `[B, heads, N]`.
    pub logs: Tensor,
}

/// Softmax attention of packed queries, keys and values `[B, N, 3 D]`, on the tape.
pub fn self_attention(packed: &Tensor, heads: i64) -> Result<SelfAttention, LibtorchError> {
    let [mut value, mut logs] = [Tensor::new(), Tensor::new()];
    // SAFETY: the handles are live tensors for the duration of the call.
    check("attention", unsafe {
        mf_attention(
            value.as_mut_ptr(),
            logs.as_mut_ptr(),
            packed.as_ptr(),
            heads,
        )
    })?;
    Ok(SelfAttention { value, logs })
}

/// The tangent of [`self_attention`] in the first `k` rows along `dpacked [k, N, 3 D]`.
pub fn self_attention_tangent(
    packed: &Tensor,
    logs: &Tensor,
    dpacked: &Tensor,
) -> Result<Tensor, LibtorchError> {
    let mut out = Tensor::new();
    // SAFETY: the handles are live tensors for the duration of the call.
    check("tangent of attention", unsafe {
        mf_attention_tangent(
            out.as_mut_ptr(),
            packed.as_ptr(),
            logs.as_ptr(),
            dpacked.as_ptr(),
        )
    })?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::CStr;
    use tch::Device;

    unsafe extern "C" {
        fn mf_linear_by(
            out: *mut C_tensor,
            x: *const C_tensor,
            weight: *const C_tensor,
            name: *const c_char,
        ) -> *mut c_char;
        fn mf_wide_product_by(
            out: *mut C_tensor,
            a: *const C_tensor,
            b: *const C_tensor,
            name: *const c_char,
        ) -> *mut c_char;
    }

    const OPTIONS: (Kind, Device) = (Kind::Float, Device::Cpu);

    fn numbers(size: &[i64]) -> Tensor {
        let count = size.iter().product::<i64>();
        Tensor::linspace(-1.0, 1.0, count, OPTIONS)
            .sin()
            .reshape(size)
    }

    fn product_by(name: &CStr, x: &Tensor, weight: &Tensor) -> Tensor {
        let mut out = Tensor::new();
        // SAFETY: the handles are live and the name ends with NUL.
        check("multiply", unsafe {
            mf_linear_by(out.as_mut_ptr(), x.as_ptr(), weight.as_ptr(), name.as_ptr())
        })
        .unwrap();
        out
    }

    /// A libtorch without oneDNN multiplies, too. Sums of 40 terms differ by roundings of 2⁻²⁴ each.
    #[test]
    fn without_onednn_the_product_is_libtorch_s_own() {
        let (x, weight) = (numbers(&[100, 40]), numbers(&[30, 40]));
        let with = product_by(c"mkldnn::_linear_pointwise", &x, &weight);
        let without = product_by(c"mkldnn::of_another_version", &x, &weight);
        assert!((&with - &without).abs().max().double_value(&[]) < 40.0 * 2f64.powi(-23));
        assert_eq!(without, x.linear(&weight, None::<Tensor>));
        assert!(
            (linear(&x, &weight, None).unwrap() - with)
                .abs()
                .max()
                .double_value(&[])
                < 1e-6
        );
    }

    /// A libtorch without products of bfloat16 in f32 multiplies, too, whichever way its factors lie. Sums of 40 terms differ by
    /// roundings of 2⁻²⁴ each.
    #[test]
    fn without_its_function_a_product_of_bfloat16_is_the_same() {
        let [a, b] = [[30, 40], [40, 20]].map(|size| numbers(&size).to_kind(Kind::BFloat16));
        let turned = [&a, &b].map(|x| x.tr().contiguous().tr());
        let by = |name: &CStr, a: &Tensor, b: &Tensor| {
            let mut out = Tensor::new();
            // SAFETY: the handles are live and the name ends with NUL.
            check("multiply", unsafe {
                mf_wide_product_by(out.as_mut_ptr(), a.as_ptr(), b.as_ptr(), name.as_ptr())
            })
            .unwrap();
            out
        };
        let expected = by(c"of_another_library", &a, &b);
        assert_eq!(
            expected,
            a.to_kind(Kind::Float).matmul(&b.to_kind(Kind::Float))
        );
        for (a, b) in [(&a, &b), (&turned[0], &b), (&a, &turned[1])] {
            let product = by(c"cblas_gemm_bf16bf16f32", a, b);
            assert_eq!(product.kind(), Kind::Float);
            let error = (&product - &expected).abs().max().double_value(&[]);
            assert!(error < 40.0 * 2f64.powi(-23), "{error:e}");
        }
    }

    /// A kernel looks at no memory that its arguments do not have.
    #[test]
    fn sizes_that_do_not_fit_are_refused() {
        let (x, m) = (numbers(&[4, 3, 8]), numbers(&[4, 1, 8]));
        let wrong = [
            numbers(&[4, 1, 7]),
            numbers(&[3, 1, 8]),
            numbers(&[4, 8]),
            Tensor::new(),
        ];
        let half = m.to_kind(Kind::Half);
        for wrong in wrong.iter().chain([&half, &m.to_kind(Kind::Double)]) {
            assert!(
                norm_modulate(&x, wrong, &m, 1e-6, Kind::Float).is_err(),
                "{wrong:?}"
            );
            assert!(
                norm_modulate(&x, &m, wrong, 1e-6, Kind::Float).is_err(),
                "{wrong:?}"
            );
            assert!(add_gated(&x, wrong, &x).is_err(), "{wrong:?}");
            assert!(add_gated(&x, &m, wrong).is_err(), "{wrong:?}");
            // A tensor that is none is a tangent that does not move.
            let tangent = add_gated_tangent([Some(wrong), None, None], &m, &x);
            assert_eq!(tangent.is_ok(), !wrong.defined(), "{wrong:?}");
            assert!(
                add_gated_tangent([None; 3], wrong, &x).is_err(),
                "{wrong:?}"
            );
            assert!(gelu_tangent(wrong, &x).is_err(), "{wrong:?}");
        }
        let mut normalized = norm_modulate(&x, &m, &m, 1e-6, Kind::Float).unwrap();
        assert!(
            norm_modulate_tangent([None; 3], &x, &Tensor::new(), &normalized, Kind::Float).is_err()
        );
        assert!(
            norm_modulate_tangent([Some(&m), None, None], &x, &m, &normalized, Kind::Float)
                .is_err()
        );
        normalized.means = normalized.means.narrow(0, 0, 2);
        assert!(
            norm_modulate_tangent([Some(&x), None, None], &x, &m, &normalized, Kind::Float)
                .is_err()
        );
        assert!(gelu(&Tensor::new()).is_err());
    }

    #[test]
    fn products_of_sizes_that_do_not_fit_are_refused() {
        let (x, m) = (numbers(&[4, 3, 8]), numbers(&[4, 1, 8]));
        assert!(self_attention(&x, 3).is_err() && self_attention(&m.select(1, 0), 1).is_err());
        let packed = numbers(&[4, 3, 12]);
        let attended = self_attention(&packed, 2).unwrap();
        let long = numbers(&[5, 3, 12]);
        assert!(self_attention_tangent(&packed, &attended.logs, &long).is_err());
        assert!(self_attention_tangent(&packed, &attended.logs.narrow(0, 0, 2), &packed).is_err());
        assert!(linear(&x, &numbers(&[2, 7]), None).is_err() && linear(&x, &x, None).is_err());
    }

    #[test]
    fn rounded_factors_of_other_sizes_and_kinds_are_refused() {
        let (x, [weight, bias]) = (numbers(&[4, 3, 8]), [numbers(&[5, 8]), numbers(&[5])]);
        let round = |x: &Tensor| x.to_kind(Kind::BFloat16);
        let (rounded_weight, rounded_bias) = (&round(&weight), &round(&bias));
        let map = RoundedLinear {
            weight: &weight,
            bias: &bias,
            rounded_weight,
            rounded_bias,
        };
        assert_eq!(map.apply(&x).unwrap().size(), [4, 3, 5]);
        assert!(map.apply(&numbers(&[4, 7])).is_err() && map.apply(&Tensor::new()).is_err());
        let (wide, long) = (numbers(&[5, 9]), numbers(&[6]));
        let (rounded_wide, rounded_long) = (&round(&wide), &round(&long));
        for wrong in [
            RoundedLinear {
                weight: &wide,
                ..map
            },
            RoundedLinear {
                rounded_weight: rounded_wide,
                ..map
            },
            RoundedLinear {
                rounded_weight: &weight,
                ..map
            },
            RoundedLinear { bias: &long, ..map },
            RoundedLinear {
                rounded_bias: rounded_long,
                ..map
            },
            RoundedLinear {
                bias: rounded_bias,
                ..map
            },
        ] {
            assert!(wrong.apply(&x).is_err(), "{wrong:?}");
        }
    }
}
