//! Pictures of half and of twice the size.

use tch::Tensor;

use crate::model::parameters::VarBuilder;
use crate::{Dual, Flops};

/// What happens to the size of a picture.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Resize {
    /// Nothing.
    Keep,
    /// Half the height and width.
    Halve,
    /// Twice the height and width.
    Double,
}

impl Resize {
    /// How many pixels a picture has afterwards.
    pub(crate) fn pixels(self, before: i64) -> i64 {
        match self {
            Self::Keep => before,
            Self::Halve => before / 4,
            Self::Double => before * 4,
        }
    }
}

/// Resampling by a fixed separable filter (Zhang 2019; `[1, 3, 3, 1]` in NCSN++, `[1, 1]` in DDPM++).
#[derive(Debug)]
pub struct Resample {
    resize: Resize,
    /// `[C, 1, n, n]`; none where the size is kept.
    filter: Option<Tensor>,
}

impl Clone for Resample {
    /// Another handle to the same filter.
    fn clone(&self) -> Self {
        Self {
            resize: self.resize,
            filter: self.filter.as_ref().map(Tensor::shallow_clone),
        }
    }
}

impl Resample {
    /// A filter of even length over `channels` channels.
    pub fn new(vars: &VarBuilder, resize: Resize, taps: &[f64], channels: i64) -> Self {
        let side = taps.len() as i64;
        let filter = || {
            vars.constant(&outer(taps), &[1, 1, side, side])
                .repeat([channels, 1, 1, 1])
        };
        Self {
            resize,
            filter: (resize != Resize::Keep).then(filter),
        }
    }

    /// Of pictures of so many pixels before; it keeps them, though its filter is fixed.
    pub fn flops(&self, pixels: i64) -> Flops {
        let Some(filter) = &self.filter else {
            return Flops::default();
        };
        let positions = self.resize.pixels(pixels).min(pixels);
        Flops::map(positions * filter.numel() as i64) + Flops::keep(pixels * filter.size()[0])
    }

    /// `[B, C, H, W]` to `[B, C, H', W']`.
    pub fn forward(&self, x: &Dual) -> Dual {
        match (self.resize, &self.filter) {
            (Resize::Halve, Some(filter)) => x.halve(filter),
            (Resize::Double, Some(filter)) => x.double(filter),
            _ => x.clone(),
        }
    }
}

/// The filter of two dimensions, `n²` numbers whose sum is 1.
pub(crate) fn outer(taps: &[f64]) -> Vec<f64> {
    let sum: f64 = taps.iter().sum();
    let rows = taps.iter();
    rows.flat_map(|row| taps.iter().map(move |column| row * column / (sum * sum)))
        .collect()
}
