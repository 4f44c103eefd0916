//! Convolution and group norm with their parameters.

use tch::{Kind, Tensor};

use crate::model::compute::Factor;
use crate::model::parameters::{Initializer, VarBuilder};
use crate::{Dual, Flops};

/// Convolution of stride 1 that keeps the size of the picture.
#[derive(Clone, Debug)]
pub struct Convolution {
    weight: Factor,
    bias: Factor,
    padding: i64,
}

impl Convolution {
    /// Declares `weight [outputs, inputs, side, side]`, Xavier-uniform times `gain`, and `bias [outputs]` at zero; `side`
    /// is odd.
    pub fn new(vars: &mut VarBuilder, inputs: i64, outputs: i64, side: i64, gain: f64) -> Self {
        let init = Initializer::Xavier {
            fan_in: inputs * side * side,
            fan_out: outputs * side * side,
            gain,
        };
        Self {
            weight: vars.factor("weight", &[outputs, inputs, side, side], init),
            bias: vars.factor("bias", &[outputs], Initializer::Zeros),
            padding: side / 2,
        }
    }

    /// Of a picture of so many pixels, without what it keeps: its input, which other layers may keep as well.
    pub fn flops(&self, pixels: i64) -> Flops {
        let channels = self.weight.size()[0] + self.weight.size()[1];
        Flops::map(pixels * self.weight.size().iter().product::<i64>())
            + Flops::pass(pixels * channels)
    }

    /// `[B, inputs, H, W]` to `[B, outputs, H, W]`, in the kind of the input: what follows is a norm or a sum.
    pub fn forward(&self, x: &Dual) -> Dual {
        x.conv2d(&self.weight.value(), &self.bias.value(), self.padding)
            .to_kind(x.kind())
    }

    /// The dtype of what stays within a branch.
    pub(crate) fn branch_kind(&self) -> Kind {
        self.weight.branch_kind()
    }
}

/// Convolution of 3×3 that halves height and width, with zeros right of and below the picture only.
#[derive(Debug)]
pub struct HalvingConvolution {
    weight: Tensor,
    bias: Tensor,
}

impl HalvingConvolution {
    /// Declares `weight [channels, channels, 3, 3]`, Xavier-uniform, and `bias [channels]` at zero.
    pub fn new(vars: &mut VarBuilder, channels: i64) -> Self {
        let init = Initializer::Xavier {
            fan_in: channels * 9,
            fan_out: channels * 9,
            gain: 1.0,
        };
        Self {
            weight: vars.parameter("weight", &[channels, channels, 3, 3], init),
            bias: vars.parameter("bias", &[channels], Initializer::Zeros),
        }
    }

    /// `[B, channels, H, W]` to `[B, channels, H/2, W/2]`; H and W are even.
    pub fn forward(&self, x: &Dual) -> Dual {
        x.conv2d_stride2(&self.weight, &self.bias)
    }
}

/// Group norm with an affine part.
#[derive(Debug)]
pub struct GroupNorm {
    weight: Tensor,
    bias: Tensor,
    groups: i64,
}

impl Clone for GroupNorm {
    /// Another handle to the same parameters.
    fn clone(&self) -> Self {
        Self {
            weight: self.weight.shallow_clone(),
            bias: self.bias.shallow_clone(),
            groups: self.groups,
        }
    }
}

impl GroupNorm {
    const EPSILON: f64 = 1e-6;

    /// Declares `weight [channels]` at one and `bias [channels]` at zero; groups of at least four channels, and at most 32
    /// of them (Karras et al. 2022).
    pub fn new(vars: &mut VarBuilder, channels: i64) -> Self {
        Self::in_groups(vars, channels, Self::groups(channels))
    }

    /// The same in so many groups, which divide the channels.
    pub fn in_groups(vars: &mut VarBuilder, channels: i64, groups: i64) -> Self {
        Self {
            weight: vars.parameter("weight", &[channels], Initializer::Ones),
            bias: vars.parameter("bias", &[channels], Initializer::Zeros),
            groups,
        }
    }

    /// How many channels are normed.
    pub(crate) fn channels(&self) -> i64 {
        self.weight.numel() as i64
    }

    /// In how many groups so many channels fall.
    pub(crate) fn groups(channels: i64) -> i64 {
        (channels / 4).min(32)
    }

    /// `[B, channels, H, W]` to the same.
    pub fn forward(&self, x: &Dual) -> Dual {
        x.group_norm(self.groups, &self.weight, &self.bias, Self::EPSILON)
    }
}
