//! What a training run takes its samples from.

use std::fmt::Debug;
use std::path::PathBuf;

use crate::fingerprint::Fingerprint;
use crate::latents::Facts;
use crate::{DataError, Examples, MemoryDataset};

/// A set of samples that can be drawn from, in memory or not.
///
/// Whatever is random in a draw (noise, flips, augmentation) is a function of the seed and the step.
#[expect(clippy::len_without_is_empty, reason = "a data set is never empty")]
pub trait Dataset: Debug + Send + Sync {
    /// Shape of one sample: `[C, H, W]` for pictures and latents, `[2]` for points of the plane.
    fn shape(&self) -> &[usize];

    /// Number of classes; 0 when the samples carry no label.
    fn classes(&self) -> usize;

    /// The label of every sample; empty when there are no classes.
    fn labels(&self) -> &[i64];

    /// Number of samples, at least one.
    fn len(&self) -> usize;

    /// The names of the classes, where they have any.
    fn class_names(&self) -> Option<&[String]> {
        None
    }

    /// A hash that tells whether a run that goes on sees the data it was begun with, wherever they lie now.
    ///
    /// Unless a data set knows better: of shape, classes and labels, and of 64 samples, evenly apart.
    ///
    /// # Errors
    /// When a file cannot be read.
    fn fingerprint(&self) -> Result<String, DataError> {
        const SOME: usize = 64;
        let mut hash = Fingerprint::new("source");
        hash.sizes(self.shape());
        hash.sizes(&[self.classes(), self.len()]);
        hash.names(self.class_names());
        hash.labels(self.labels());
        let indices: Vec<usize> = (0..self.len()).step_by(self.len().div_ceil(SOME)).collect();
        hash.values(&self.batch(&indices, 0, 0)?.values);
        Ok(hash.finish())
    }

    /// What a person should know of how the data were read, a sentence each.
    fn remarks(&self) -> Vec<String> {
        Vec::new()
    }

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
    /// When an index is not below [`Dataset::len`], as slices do.
    fn batch(&self, indices: &[usize], seed: u64, step: u64) -> Result<Examples, DataError>;

    /// Some rows of [`Dataset::batch`], with the same numbers that they have there: what one of several processes needs of a batch.
    ///
    /// May be overridden for speed: unless a data set knows better the whole batch is made.
    ///
    /// # Errors
    /// As [`Dataset::batch`].
    ///
    /// # Panics
    /// When a row is not below the number of indices; as [`Dataset::batch`].
    fn batch_rows(
        &self,
        indices: &[usize],
        rows: &[usize],
        seed: u64,
        step: u64,
    ) -> Result<Examples, DataError> {
        Ok(self.batch(indices, seed, step)?.rows(rows, indices.len()))
    }

    /// The samples that could not be read and were replaced by others until now, each with the reason: few, because
    /// more would have been an error. None unless the data set was told to go on without them.
    fn skipped(&self) -> Vec<(PathBuf, String)> {
        Vec::new()
    }
}

/// The indices of some rows of a batch.
pub(crate) fn picked(indices: &[usize], rows: &[usize]) -> Vec<usize> {
    rows.iter().map(|&row| indices[row]).collect()
}

/// The samples as they are, at every step.
impl Dataset for MemoryDataset {
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

    fn class_names(&self) -> Option<&[String]> {
        self.class_names()
    }

    fn fingerprint(&self) -> Result<String, DataError> {
        Ok(self.fingerprint())
    }

    fn batch(&self, indices: &[usize], _seed: u64, _step: u64) -> Result<Examples, DataError> {
        Ok(self.examples(indices))
    }

    fn batch_rows(
        &self,
        indices: &[usize],
        rows: &[usize],
        _seed: u64,
        _step: u64,
    ) -> Result<Examples, DataError> {
        Ok(self.examples(&picked(indices, rows)))
    }
}
