//! What a network costs, counted layer by layer without running it: multiply-adds, and what stays on the tape.
//!
//! Only matrix products, convolutions and attention are counted as work: the rest passes over memory. Counts are of one
//! row of a batch; an operation is a multiplication or an addition, two for each multiply-add.

use std::iter::Sum;
use std::ops::{Add, Mul};

use crate::JvpMethod;
use crate::model::compute::Dtype;

/// The cost of one forward of one row.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Flops {
    /// Multiply-adds of affine maps and convolutions.
    pub maps: u64,
    /// Multiply-adds of `q kᵀ` and `p v`, which multiply what moves with what moves.
    pub attention: u64,
    /// Numbers that a differentiated forward keeps for the backward pass.
    pub kept: u64,
    /// Of these, the numbers that products take or make: in bfloat16 of two bytes on a CUDA device, on the CPU only what they take.
    pub factors: u64,
    /// Inputs of products of which something else keeps the numbers, too: where products round, their copies are kept besides.
    pub copies: u64,
    /// Numbers in the gradients of activations that the backward pass holds at a time, at most: those of the layer where they are most,
    /// for layers are differentiated one after another.
    pub passing: u64,
}

impl Flops {
    /// An affine map or a convolution that takes so many multiply-adds.
    pub fn map(multiply_adds: i64) -> Self {
        Self {
            maps: multiply_adds as u64,
            ..Self::default()
        }
    }

    /// Attention between `tokens` tokens, `width` wide in all heads together.
    pub fn attention(tokens: i64, width: i64) -> Self {
        Self {
            attention: (2 * tokens * tokens * width) as u64,
            ..Self::default()
        }
    }

    /// So many numbers kept for the backward pass.
    pub fn keep(numbers: i64) -> Self {
        Self {
            kept: numbers as u64,
            ..Self::default()
        }
    }

    /// So many numbers kept that products take or make.
    pub fn keep_factors(numbers: i64) -> Self {
        Self::keep(numbers).as_factors()
    }

    /// So many inputs of products that something else keeps in any case.
    pub fn copy_factors(numbers: i64) -> Self {
        Self {
            copies: numbers as u64,
            ..Self::default()
        }
    }

    /// The same, where products take or make all that is kept.
    pub fn as_factors(self) -> Self {
        Self {
            factors: self.kept,
            ..self
        }
    }

    /// So many numbers in the gradients that a layer takes and gives.
    pub fn pass(numbers: i64) -> Self {
        Self {
            passing: numbers as u64,
            ..Self::default()
        }
    }

    /// Bytes that a forward on a CUDA device keeps for the backward pass, over parameters of four bytes. In bfloat16 the CPU keeps
    /// more: its affine maps give f32.
    pub fn kept_bytes(&self, dtype: Dtype) -> u64 {
        match dtype {
            Dtype::F32 => 4 * self.kept,
            Dtype::Bf16 => {
                4 * self.kept.saturating_sub(self.factors) + 2 * (self.factors + self.copies)
            }
        }
    }

    /// Operations of a forward.
    pub fn forward(&self) -> f64 {
        self.operations(1.0, 1.0)
    }

    /// Operations of the backward pass: of a map, the gradients of its input and of its weight; of attention, four products and
    /// the scores again, as fused kernels do it, for the forward's two.
    pub fn backward(&self) -> f64 {
        self.operations(2.0, 2.5)
    }

    /// Operations of `du/dt` beside the forward and backward that the loss needs anyway.
    ///
    /// Attention is counted in its forward's two products: a dual forward takes the scores again and four more, libtorch's forward mode
    /// the forward and four more, two backward passes four more each.
    pub fn derivative(&self, jvp: JvpMethod) -> f64 {
        match jvp {
            JvpMethod::Dual => self.operations(1.0, 2.5),
            JvpMethod::ForwardAd => self.operations(2.0, 3.0),
            JvpMethod::DoubleBackward => self.operations(3.0, 5.0),
            JvpMethod::FiniteDifference { .. } => self.operations(2.0, 2.0),
        }
    }

    fn operations(&self, maps: f64, attention: f64) -> f64 {
        2.0 * (maps * self.maps as f64 + attention * self.attention as f64)
    }
}

/// One after the other.
impl Add for Flops {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            maps: self.maps + other.maps,
            attention: self.attention + other.attention,
            kept: self.kept + other.kept,
            factors: self.factors + other.factors,
            copies: self.copies + other.copies,
            passing: self.passing.max(other.passing),
        }
    }
}

/// So many times, one after another.
impl Mul<i64> for Flops {
    type Output = Self;

    fn mul(self, times: i64) -> Self {
        let times = times as u64;
        Self {
            maps: self.maps * times,
            attention: self.attention * times,
            kept: self.kept * times,
            factors: self.factors * times,
            copies: self.copies * times,
            passing: self.passing,
        }
    }
}

impl Sum for Flops {
    fn sum<I: Iterator<Item = Self>>(parts: I) -> Self {
        parts.fold(Self::default(), Add::add)
    }
}
