//! A tensor with its directional derivative: every rule of forward mode, once.
//!
//! The primal runs on libtorch's tape as it would alone. The tangent is computed beside it without a tape, from the
//! primal's own intermediates: the target of (M14) takes no gradient, so nothing of it has to be kept. The tangent may
//! have fewer rows than the primal; the rows with `r < t` come first in a batch, and only they need `du/dt`.
//!
//! Shapes: `B` rows (samples), `k ≤ B` rows with a tangent, `…` any further dimensions.

pub(crate) mod attention;
pub(crate) mod checkpoint;
mod convolution;
pub(crate) mod jvp;
pub(crate) mod jvp_method;
pub mod kernels;
mod transformer;

use std::borrow::Borrow;

use meanflow_libtorch::kernels::RoundedLinear;
use meanflow_libtorch::{done, operations};
use tch::{Kind, Tensor, no_grad};

use crate::TorchError;
use crate::tensor::column;

/// A primal `[B, …]` on the tape and its tangent `[k, …]` off it.
///
/// Without a tangent every operation costs what it costs on the plain tensor.
///
/// ```
/// use meanflow_torch::{Dual, Tensor};
///
/// // SiLU at 0 along 1: value 0, derivative ½.
/// let x = Dual::new(Tensor::from_slice(&[0.0]), Tensor::from_slice(&[1.0]))?;
/// let y = x.silu();
/// assert_eq!(y.primal().double_value(&[0]), 0.0);
/// assert_eq!(y.tangent().map(|dy| dy.double_value(&[0])), Some(0.5));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Dual {
    primal: Tensor,
    tangent: Option<Tensor>,
}

impl Clone for Dual {
    fn clone(&self) -> Self {
        Self {
            primal: self.primal.shallow_clone(),
            tangent: self.tangent.as_ref().map(Tensor::shallow_clone),
        }
    }
}

impl From<Tensor> for Dual {
    fn from(primal: Tensor) -> Self {
        Self {
            primal,
            tangent: None,
        }
    }
}

impl Dual {
    /// A primal `[B, …]` with the tangent `[k, …]` of its first `k` rows.
    ///
    /// # Errors
    /// If the tangent has more rows than the primal or differs in another dimension.
    #[allow(
        clippy::needless_pass_by_value,
        reason = "a dual number owns both of its parts"
    )]
    pub fn new(primal: Tensor, tangent: Tensor) -> Result<Self, TorchError> {
        let (size, got) = (primal.size(), tangent.size());
        let fits = size.len() == got.len()
            && !size.is_empty()
            && got[0] <= size[0]
            && got[1..] == size[1..];
        if !fits {
            let expected = format!(
                "[k ≤ {}, …] of a primal {size:?}",
                size.first().unwrap_or(&0)
            );
            return Err(TorchError::Shape {
                what: "tangent".into(),
                expected,
                got,
            });
        }
        Ok(Self {
            primal,
            tangent: Some(tangent.detach()),
        })
    }

    /// The value, `[B, …]`.
    pub fn primal(&self) -> &Tensor {
        &self.primal
    }

    /// The directional derivative of the first rows, `[k, …]`; none where the value does not move.
    pub fn tangent(&self) -> Option<&Tensor> {
        self.tangent.as_ref()
    }

    /// Value and derivative apart.
    pub fn into_parts(self) -> (Tensor, Option<Tensor>) {
        (self.primal, self.tangent)
    }

    /// A function that is linear and works row by row: reshapes, permutations, sums and products with constants.
    pub fn map_linear(&self, function: impl Fn(&Tensor) -> Tensor) -> Self {
        Self {
            primal: function(&self.primal),
            tangent: self.tangent.as_ref().map(|dx| no_grad(|| function(dx))),
        }
    }

    /// The dtype of the value.
    pub fn kind(&self) -> Kind {
        self.primal.kind()
    }

    /// The same in another dtype; itself where it has that one.
    pub fn to_kind(&self, kind: Kind) -> Self {
        self.map_linear(|x| x.to_kind(kind))
    }

    /// A function whose tangent is `rule(tangent, rows of the primal that have one)`.
    fn with_rule(&self, primal: Tensor, rule: impl Fn(&Tensor, &Tensor) -> Tensor) -> Self {
        let tangent = self
            .tangent
            .as_ref()
            .map(|dx| no_grad(|| rule(dx, &head(&self.primal, dx))));
        Self { primal, tangent }
    }

    /// `x Wᵀ + b` over the last dimension, in the weight's dtype; weight `[out, in]`, bias `[out]`.
    pub fn linear(&self, weight: &Tensor, bias: Option<&Tensor>) -> Self {
        let x = self.to_kind(weight.kind());
        x.with_rule(kernels::linear(&x.primal, weight, bias), |dx, _| {
            kernels::linear(dx, weight, None)
        })
    }

    /// [`Dual::linear`] by factors that were rounded to bfloat16, whose gradients are not; in bfloat16 on a CUDA device, in the
    /// kind of the parameters on the CPU.
    pub(crate) fn rounded_linear(&self, map: &RoundedLinear<'_>) -> Self {
        self.with_rule(done(map.apply(&self.primal)), |dx, _| {
            done(map.apply_without_bias(dx))
        })
    }

    /// `x + y` of two states of one shape.
    pub fn add(&self, other: &Self) -> Self {
        let tangent = match (&self.tangent, &other.tangent) {
            (Some(dx), Some(dy)) => Some(no_grad(|| dx + dy)),
            (Some(one), None) | (None, Some(one)) => Some(one.shallow_clone()),
            (None, None) => None,
        };
        Self {
            primal: &self.primal + &other.primal,
            tangent,
        }
    }

    /// `x − y` of two states of one shape.
    pub fn sub(&self, other: &Self) -> Self {
        self.add(&other.scale(-1.0))
    }

    /// `c x`.
    pub fn scale(&self, c: f64) -> Self {
        self.map_linear(|x| x * c)
    }

    /// `max(x, bound)`; it does not move at the bound and below.
    pub fn clamp_min(&self, bound: f64) -> Self {
        self.with_rule(self.primal.clamp_min(bound), |dx, x| dx * x.gt(bound))
    }

    /// `x / d` row by row; `x [B, …]`, `d [B]`.
    pub fn div_rows(&self, divisor: &Self) -> Self {
        let rows = |x: &Tensor| column(x, &self.primal);
        let primal = &self.primal / rows(&divisor.primal);
        let moving = [self, divisor].map(|x| x.tangent.as_ref());
        let tangent = moving.into_iter().flatten().next().map(|dx| {
            no_grad(|| {
                let [x, d] = [&primal, &divisor.primal].map(|x| head(x, dx));
                let [dx, dd] = [self, divisor].map(|x| x.tangent_or_zero(dx.size()[0]));
                (dx - x * rows(&dd)) / rows(&d)
            })
        });
        Self { primal, tangent }
    }

    /// `x + constant`, broadcast over the rows.
    pub fn add_constant(&self, constant: &Tensor) -> Self {
        Self {
            primal: &self.primal + constant,
            tangent: self.tangent.as_ref().map(Tensor::shallow_clone),
        }
    }

    /// `x · constant` of one shape: a mask of dropout.
    pub fn mul_const(&self, constant: &Tensor) -> Self {
        self.with_rule(&self.primal * constant, |dx, _| {
            dx * constant.narrow(0, 0, dx.size()[0])
        })
    }

    /// `SiLU(x) = x σ(x)`.
    pub fn silu(&self) -> Self {
        // The Jacobian is diagonal: its product with a tangent is its product with a gradient.
        self.with_rule(self.primal.silu(), |dx, x| x.silu_backward(dx))
    }

    /// GELU in its tanh form.
    pub fn gelu(&self) -> Self {
        if kernels::serve(&self.primal) {
            return self.with_rule(done(kernels::gelu(&self.primal)), |dx, x| {
                done(kernels::gelu_tangent(x, dx))
            });
        }
        self.with_rule(self.primal.gelu("tanh"), |dx, x| {
            x.gelu_backward(dx, "tanh")
        })
    }

    /// Layer norm over the last dimension, without affine part.
    pub fn layer_norm(&self, epsilon: f64) -> Self {
        let width = self.primal.size().last().copied().unwrap_or(1);
        let none = None::<&Tensor>;
        let (primal, mean, rstd) = self.primal.native_layer_norm([width], none, none, epsilon);
        let tangent = self.tangent.as_ref().map(|dx| {
            no_grad(|| {
                let rows = [head(&self.primal, dx), head(&mean, dx), head(&rstd, dx)];
                // The Jacobian is symmetric, so the backward kernel is also the forward derivative.
                let [x, mean, rstd] = &rows;
                done(operations::layer_norm_backward(
                    &dx.contiguous(),
                    x,
                    mean,
                    rstd,
                ))
            })
        });
        Self { primal, tangent }
    }

    /// `[cos(x f), sin(x f)]` for a column of frequencies; `x [B]`, `f [F]`, result `[B, 2F]`.
    pub fn sinusoid(&self, frequencies: &Tensor) -> Self {
        let angle = self.primal.unsqueeze(-1) * frequencies;
        let primal = Tensor::cat(&[angle.cos(), angle.sin()], -1);
        let tangent = self.tangent.as_ref().map(|dx| {
            no_grad(|| {
                let angle = head(&angle, dx);
                let speed = dx.unsqueeze(-1) * frequencies;
                Tensor::cat(&[angle.sin().neg() * &speed, angle.cos() * &speed], -1)
            })
        });
        Self { primal, tangent }
    }

    /// Views of `PARTS` parts of one size along a dimension other than the rows: one operation, whose backward pass puts
    /// the gradients together in one copy.
    pub fn chunk<const PARTS: usize>(&self, dim: i64) -> [Self; PARTS] {
        let parts = |x: &Tensor| x.chunk(PARTS as i64, dim).into_iter();
        let mut primals = parts(&self.primal);
        let mut tangents = self.tangent.as_ref().map(|dx| no_grad(|| parts(dx)));
        std::array::from_fn(|_| Self {
            primal: primals.next().expect("as many chunks as asked for"),
            tangent: tangents
                .as_mut()
                .map(|parts| parts.next().expect("as many as of the primal")),
        })
    }

    /// Dual numbers side by side along a dimension other than the rows; a part that does not move counts as zero.
    pub fn cat<D: Borrow<Self>>(parts: &[D], dim: i64) -> Self {
        let primals: Vec<&Tensor> = parts.iter().map(|part| part.borrow().primal()).collect();
        let rows = parts
            .iter()
            .find_map(|part| part.borrow().tangent.as_ref().map(|dx| dx.size()[0]));
        let tangent = rows.map(|rows| {
            no_grad(|| {
                let tangents: Vec<Tensor> = parts
                    .iter()
                    .map(|part| part.borrow().tangent_or_zero(rows))
                    .collect();
                Tensor::cat(&tangents, dim)
            })
        });
        Self {
            primal: Tensor::cat(&primals, dim),
            tangent,
        }
    }

    /// The tangent, or zeros for `rows` rows.
    fn tangent_or_zero(&self, rows: i64) -> Tensor {
        match &self.tangent {
            Some(dx) => dx.shallow_clone(),
            None => self.primal.detach().narrow(0, 0, rows).zeros_like(),
        }
    }
}

/// The rows of `x` that belong to the tangent `dx`, off the tape.
fn head(x: &Tensor, dx: &Tensor) -> Tensor {
    x.detach().narrow(0, 0, dx.size()[0])
}
