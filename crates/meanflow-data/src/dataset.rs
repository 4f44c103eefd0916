//! What a training run takes its samples from.

use std::fmt::Debug;
use std::path::PathBuf;

use crate::fingerprint::Fingerprint;
use crate::latents::Facts;
use crate::{DataError, Examples, MemoryDataset};

/// What is known of a data set without drawing from it.
#[derive(Clone, Debug, PartialEq)]
pub struct DatasetInfo {
    /// Shape of one sample: `[C, H, W]` for pictures and latents, `[2]` for points of the plane.
    pub shape: Vec<usize>,
    /// Number of samples, at least one.
    pub len: usize,
    /// Number of classes; 0 when the samples carry no label.
    pub classes: usize,
    /// The label of every sample, each in `0..classes`; empty when there are no classes.
    pub labels: Vec<i64>,
    /// The names of the classes, where they have any.
    pub class_names: Option<Vec<String>>,
    /// What the numbers are, where the samples are latents of a VAE.
    pub latents: Option<Facts>,
}

/// A set of samples that can be drawn from, in memory or not.
///
/// Whatever is random in a draw (noise, flips, augmentation) is a function of the seed and the step.
#[expect(clippy::len_without_is_empty, reason = "a data set is never empty")]
pub trait Dataset: Debug + Send + Sync {
    /// What is known of it without drawing. A data set that changes another one gives that one's where it changes nothing of it.
    fn info(&self) -> &DatasetInfo;

    /// [`DatasetInfo::shape`].
    fn shape(&self) -> &[usize] {
        &self.info().shape
    }

    /// [`DatasetInfo::classes`].
    fn classes(&self) -> usize {
        self.info().classes
    }

    /// [`DatasetInfo::labels`].
    fn labels(&self) -> &[i64] {
        &self.info().labels
    }

    /// [`DatasetInfo::len`].
    fn len(&self) -> usize {
        self.info().len
    }

    /// [`DatasetInfo::class_names`].
    fn class_names(&self) -> Option<&[String]> {
        self.info().class_names.as_deref()
    }

    /// [`DatasetInfo::latents`].
    fn latents(&self) -> Option<&Facts> {
        self.info().latents.as_ref()
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
    fn info(&self) -> &DatasetInfo {
        self.info()
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
