//! The three ways in which published evaluations bring a picture to the size that Inception takes.
//!
//! They differ enough to move a Fréchet distance by several units, so a result names its own. Each is linear in either
//! direction: a matrix of weights for the rows and one for the columns.

use std::fmt;

use tch::{Kind, Tensor};

use crate::{EvalError, features};

/// How pictures are resized.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Resize {
    /// clean-fid: Pillow's bicubic filter in floating point, wide enough to average when shrinking, clipped to `0..=255`.
    Clean,
    /// TensorFlow 1, and with it the original FID and ADM's: bilinear between the two nearest pixels, of which the first
    /// lies at the corner, half a pixel off.
    LegacyTf,
    /// PyTorch's `interpolate`, and with it pytorch-fid: bilinear between the two nearest pixels, centred.
    LegacyPytorch,
}

impl Resize {
    /// Every way, for lists of choices.
    pub const ALL: [Self; 3] = [Self::Clean, Self::LegacyTf, Self::LegacyPytorch];

    /// `clean`, `legacy_tf` or `legacy_pytorch`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Clean => "clean",
            Self::LegacyTf => "legacy_tf",
            Self::LegacyPytorch => "legacy_pytorch",
        }
    }

    /// Pictures `[B, C, H, W]` of bytes as `[B, C, side, side]` in f32, still on the scale `0..=255` and not rounded.
    ///
    /// # Errors
    /// [`EvalError::Shape`] for what are no such pictures.
    pub fn apply(self, pictures: &Tensor, side: i64) -> Result<Tensor, EvalError> {
        let pictures = features::checked(pictures)?;
        let size = pictures.size();
        let axis = |length: i64| self.matrix(length, side).to_device(pictures.device());
        let (rows, columns) = (axis(size[2]), axis(size[3]));
        // Columns first, as Pillow.
        let wide = pictures.to_kind(Kind::Double).matmul(&columns.tr());
        let resized = rows.matmul(&wide).to_kind(Kind::Float);
        Ok(match self {
            Self::Clean => resized.clamp(0.0, 255.0),
            Self::LegacyTf | Self::LegacyPytorch => resized,
        })
    }

    /// The weights `[to, from]` of the pixels of a line in each pixel of the resized line.
    fn matrix(self, from: i64, to: i64) -> Tensor {
        let mut weights = vec![0.0; (from * to) as usize];
        for (line, target) in weights.chunks_mut(from as usize).zip(0..) {
            match self {
                Self::Clean => bicubic(line, target, to),
                // The positions are f32 in both originals; f64 would move them by up to 1e-5 pixels.
                Self::LegacyTf => {
                    let scale = (from as f64 / to as f64) as f32;
                    bilinear(line, target as f32 * scale);
                }
                Self::LegacyPytorch => {
                    let scale = from as f32 / to as f32;
                    // Rounded once, as the original's compiler has it.
                    bilinear(line, scale.mul_add(target as f32 + 0.5, -0.5));
                }
            }
        }
        Tensor::from_slice(&weights).reshape([to, from])
    }
}

impl fmt::Display for Resize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The two pixels around a position, by nearness; beyond the ends there is the last pixel.
fn bilinear(line: &mut [f64], position: f32) {
    let position = position.max(0.0);
    let last = line.len() - 1;
    let below = (position as usize).min(last);
    let share = f64::from(position - below as f32).min(1.0);
    line[below] += 1.0 - share;
    line[(below + 1).min(last)] += share;
}

/// The cubic filter centred on a pixel of the resized line, as wide as two pixels of the coarser line on either side.
fn bicubic(line: &mut [f64], target: i64, to: i64) {
    let ratio = line.len() as f64 / to as f64;
    let scale = ratio.max(1.0);
    let center = (target as f64 + 0.5) * ratio;
    let support = 2.0 * scale;
    // Pillow rounds the ends of the window half up, then cuts it at the ends of the line.
    let start = (center - support + 0.5).max(0.0) as usize;
    let end = ((center + support + 0.5) as usize).min(line.len());
    for (pixel, weight) in line.iter_mut().enumerate().take(end).skip(start) {
        *weight = cubic((pixel as f64 - center + 0.5) / scale);
    }
    let total: f64 = line.iter().sum();
    for weight in line {
        *weight /= total;
    }
}

/// Keys' kernel with `a = −½` (1981).
fn cubic(x: f64) -> f64 {
    const A: f64 = -0.5;
    let x = x.abs();
    if x < 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * A
    } else {
        0.0
    }
}
