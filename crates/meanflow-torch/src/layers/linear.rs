//! The affine map.

use meanflow_libtorch::kernels::RoundedLinear;
use tch::Kind;

use super::PatchGrid;
use crate::dual::kernels;
use crate::model::compute::Factor;
use crate::model::parameters::{Initializer, VarBuilder};
use crate::{Dual, Flops};

/// `x Wᵀ + b` over the last dimension.
#[derive(Clone, Debug)]
pub struct Linear {
    weight: Factor,
    bias: Factor,
}

impl Linear {
    /// Declares `weight [outputs, inputs]`, started as `init` says, and `bias [outputs]` at zero.
    pub fn new(vars: &mut VarBuilder, inputs: i64, outputs: i64, init: Initializer) -> Self {
        Self {
            weight: vars.factor("weight", &[outputs, inputs], init),
            bias: vars.factor("bias", &[outputs], Initializer::Zeros),
        }
    }

    /// Declares an affine map with Xavier-uniform weights.
    pub fn xavier(vars: &mut VarBuilder, inputs: i64, outputs: i64) -> Self {
        Self::new(
            vars,
            inputs,
            outputs,
            Initializer::Xavier {
                fan_in: inputs,
                fan_out: outputs,
                gain: 1.0,
            },
        )
    }

    /// Declares a convolution of a patch's size and stride, `weight [outputs, C, p, p]`, as the affine map of patches
    /// that it is.
    pub fn patches(vars: &mut VarBuilder, grid: &PatchGrid, outputs: i64) -> Self {
        let (inputs, side) = (grid.patch_size(), grid.patch);
        let init = Initializer::Xavier {
            fan_in: inputs,
            fan_out: outputs,
            gain: 1.0,
        };
        let weight = vars.factor("weight", &[outputs, grid.channels, side, side], init);
        Self {
            weight,
            bias: vars.factor("bias", &[outputs], Initializer::Zeros),
        }
    }

    /// Length of a result.
    pub(crate) fn outputs(&self) -> i64 {
        self.weight.size()[0]
    }

    /// The dtype of what the map takes and gives.
    pub(crate) fn kind(&self) -> Kind {
        self.weight.branch_kind()
    }

    /// Of `rows` vectors, which it keeps.
    pub fn flops(&self, rows: i64) -> Flops {
        let weights = self.weight.size().iter().product::<i64>();
        let inputs = weights / self.outputs();
        Flops::map(rows * weights)
            + Flops::keep(rows * inputs)
            + Flops::pass(rows * (inputs + self.outputs()))
    }

    /// `[B, …, inputs]` to `[B, …, outputs]`, in the dtype of the product on a CUDA device and in that of the parameters on
    /// the CPU.
    pub fn forward(&self, x: &Dual) -> Dual {
        let (weight, bias) = (self.weight.value().flatten(1, -1), self.bias.value());
        if !kernels::serve_rounded(self.weight.parameter(), weight.kind()) {
            return x.linear(&weight, Some(&bias)).to_kind(self.kind());
        }
        x.rounded_linear(&RoundedLinear {
            weight: &self.weight.parameter().flatten(1, -1),
            bias: self.bias.parameter(),
            rounded_weight: &weight.detach(),
            rounded_bias: &bias.detach(),
        })
    }
}
