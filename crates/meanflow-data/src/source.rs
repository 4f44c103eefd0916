//! What a training run takes its samples from.

use std::fmt::Debug;
use std::path::PathBuf;

use crate::latents::Facts;
use crate::{DataError, Dataset, Examples};

/// A set of samples that can be drawn from, in memory or not.
///
/// Whatever is random in a draw (noise, flips, augmentation) is a function of the seed and the step.
#[expect(clippy::len_without_is_empty, reason = "a source is never empty")]
pub trait Source: Debug + Send + Sync {
    /// Shape of one sample: `[C, H, W]` for pictures and latents, `[2]` for points of the plane.
    fn shape(&self) -> &[usize];

    /// Number of classes; 0 when the samples carry no label.
    fn classes(&self) -> usize;

    /// The label of every sample; empty when there are no classes.
    fn labels(&self) -> &[i64];

    /// Number of samples, at least one.
    fn len(&self) -> usize;

    /// What the numbers are, where the samples are latents of a VAE.
    fn latents(&self) -> Option<&Facts> {
        None
    }

    /// The samples `indices` in that order, as the run with this seed sees them at this step.
    ///
    /// # Errors
    /// When a file can no longer be read, or does not hold what it should.
    ///
    /// # Panics
    /// When an index is not below [`Source::len`], as slices do.
    fn draw(&self, indices: &[usize], seed: u64, step: u64) -> Result<Examples, DataError>;

    /// The samples that could not be read and were replaced by others until now, each with the reason: few, because
    /// more would have been an error. None unless the source was told to go on without them.
    fn skipped(&self) -> Vec<(PathBuf, String)> {
        Vec::new()
    }
}

/// The samples as they are, at every step.
impl Source for Dataset {
    fn shape(&self) -> &[usize] {
        self.shape()
    }

    fn classes(&self) -> usize {
        self.classes()
    }

    fn labels(&self) -> &[i64] {
        self.labels()
    }

    fn len(&self) -> usize {
        self.len()
    }

    fn draw(&self, indices: &[usize], _seed: u64, _step: u64) -> Result<Examples, DataError> {
        Ok(self.batch(indices))
    }
}
