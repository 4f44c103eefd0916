//! The size of a U-Net.

use serde::{Deserialize, Serialize};

use super::super::{limits, multiple, positive, within};
use crate::TorchError;
use crate::layers::{GroupNorm, TimeEmbedding};

/// The size of a [`Unet`](super::Unet).
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct UnetConfig {
    /// Channels of the first convolution, a multiple of 4.
    pub channels: i64,
    /// Channels over `channels` at every resolution, each half the one before.
    pub multipliers: Vec<i64>,
    /// Residual blocks a resolution on the way down; one more on the way up.
    pub blocks: i64,
    /// Sides in pixels at which the blocks have attention; one block at the lowest has it always.
    pub attention: Vec<i64>,
    /// The filter of the resampling: `[1, 3, 3, 1]` of NCSN++, or `[1, 1]`.
    pub filter: Vec<f64>,
    /// Numbers that embed one time, over `channels`.
    pub noise_ratio: i64,
    /// Which functions of (r, t) the network sees, side by side.
    pub embedding: TimeEmbedding,
    /// Numbers that describe an augmentation; 0 for none.
    pub augment: i64,
    /// Share of units dropped in training.
    pub dropout: f64,
}

impl UnetConfig {
    /// Width of the embedding over `channels`, as published.
    const EMBEDDING_RATIO: i64 = 4;

    pub(crate) fn validate(&self, shape: &[i64]) -> Result<(), TorchError> {
        let [_, height, width] = *shape else {
            return Err(TorchError::Shape {
                what: "sample".into(),
                expected: "a picture [channels, height, width] for a U-Net".into(),
                got: shape.to_vec(),
            });
        };
        for (key, value, limit) in [
            ("channels", self.channels, limits::WIDTH),
            ("blocks", self.blocks, limits::DEPTH),
            ("noise_ratio", self.noise_ratio, limits::RATIO),
            ("augment", self.augment.saturating_add(1), limits::WIDTH),
        ] {
            within(key, value, limit)?;
        }
        multiple("channels", self.channels, 4, "groups of four")?;
        self.check_levels(height, width)?;
        self.check_filter()?;
        let refused = |key, expected: &str, got: String| {
            Err(TorchError::Config {
                key,
                expected: expected.into(),
                got,
            })
        };
        if !(0.0..1.0).contains(&self.dropout) {
            return refused("dropout", "a share in [0, 1)", self.dropout.to_string());
        }
        Ok(())
    }

    /// Every resolution has whole pixels, and its channels fall into equal groups.
    fn check_levels(&self, height: i64, width: i64) -> Result<(), TorchError> {
        let levels = self.multipliers.len() as u32;
        positive("multipliers", i64::from(levels))?;
        for multiplier in &self.multipliers {
            within("multipliers", *multiplier, limits::RATIO)?;
        }
        if levels > 16 || height != width || height % (1 << (levels - 1)) != 0 {
            return Err(TorchError::Config {
                key: "multipliers",
                expected: "a square picture that can be halved at every level but the first".into(),
                got: format!("{levels} levels of a picture {height} × {width}"),
            });
        }
        let mut widths: Vec<i64> = self.multipliers.iter().map(|m| m * self.channels).collect();
        widths.push(self.channels);
        let sums = widths
            .iter()
            .flat_map(|one| widths.iter().map(move |two| one + two));
        for width in sums.chain(widths.iter().copied()) {
            multiple(
                "channels",
                width,
                GroupNorm::groups(width),
                "the groups of a norm",
            )?;
        }
        Ok(())
    }

    /// An even number of taps keeps halved and doubled pictures in place.
    fn check_filter(&self) -> Result<(), TorchError> {
        let sum: f64 = self.filter.iter().sum();
        let even = !self.filter.is_empty() && self.filter.len().is_multiple_of(2);
        if even && sum.is_finite() && sum != 0.0 {
            return Ok(());
        }
        Err(TorchError::Config {
            key: "filter",
            expected: "an even number of taps whose sum is not 0".into(),
            got: format!("{:?}", self.filter),
        })
    }

    /// Numbers that embed all times together.
    pub(super) fn time_channels(&self) -> i64 {
        self.channels * self.noise_ratio * self.embedding.count()
    }

    /// Width `E` of the embedding.
    pub(super) fn embedding_width(&self) -> i64 {
        self.channels * Self::EMBEDDING_RATIO
    }
}
