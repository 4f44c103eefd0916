//! What a run keeps of the data it trains on: a hash to know them again, the names of the classes, and a picture.

use std::num::NonZeroUsize;
use std::path::Path;

use meanflow_data::{DataError, Dataset, EpochOrder, Picture, write_bytes};
use serde::Serialize;

use crate::TrainError;
use crate::latents::{self, LatentDecoder};
use crate::samples::Samples;

/// Samples on the picture of the data, and in a row of it.
const SHOWN: usize = 64;
const COLUMNS: usize = 16;

/// What `data.json` of a run directory says.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DataRecord {
    /// A hash of names, sizes, labels and contents, as far as [`Dataset::fingerprint`] looks; the place does not count.
    pub fingerprint: String,
    /// Number of samples.
    pub samples: usize,
    /// Shape of one sample.
    pub shape: Vec<usize>,
    /// Number of classes.
    pub classes: usize,
    /// Their names, where they have any.
    pub class_names: Option<Vec<String>>,
}

impl DataRecord {
    /// The record of a data set.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn of(data: &dyn Dataset) -> Result<Self, DataError> {
        Ok(Self {
            fingerprint: data.fingerprint()?,
            samples: data.len(),
            shape: data.shape().to_vec(),
            classes: data.classes(),
            class_names: data.class_names().map(<[String]>::to_vec),
        })
    }

    /// Refuses to go on from a checkpoint of other data.
    ///
    /// # Errors
    /// [`TrainError::DataChanged`].
    pub(crate) fn refuse_other(&self, path: &Path, before: Option<&str>) -> Result<(), TrainError> {
        match before {
            Some(before) if before != self.fingerprint => Err(TrainError::DataChanged {
                path: path.to_owned(),
                before: before.to_owned(),
                now: self.fingerprint.clone(),
            }),
            _ => Ok(()),
        }
    }

    /// Writes it into a run directory.
    ///
    /// # Errors
    /// Those of the file system.
    pub(crate) fn write(&self, root: &Path) -> Result<(), DataError> {
        let text =
            serde_json::to_string_pretty(self).expect("a record is made of strings and numbers");
        write_bytes(&root.join("data.json"), text.as_bytes())
    }
}

/// A picture of the first samples of a run with this seed, as its network sees them: cut, augmented, over their background.
///
/// # Errors
/// When a sample cannot be read, or is neither a picture nor a latent nor a point of the plane.
pub fn picture_of(
    data: &dyn Dataset,
    seed: u64,
    (count, columns): (NonZeroUsize, usize),
    decoder: Option<&LatentDecoder>,
) -> Result<Picture, TrainError> {
    let all = NonZeroUsize::new(data.len()).expect("a data set is never empty");
    let indices = EpochOrder::new(all, count.min(all), seed).batch_at(0);
    let samples = Samples {
        values: data.batch(&indices, seed, 0)?.values,
        shape: data.shape().to_vec(),
    };
    latents::sheet(&samples, decoder, columns)
}

/// The picture that every run directory has of its data; none of samples that cannot be drawn.
///
/// # Errors
/// As [`picture_of`].
pub(crate) fn picture(
    data: &dyn Dataset,
    seed: u64,
    decoder: Option<&LatentDecoder>,
) -> Result<Option<Picture>, TrainError> {
    if !matches!(data.shape(), [2] | [_, _, _]) {
        return Ok(None);
    }
    let count = NonZeroUsize::new(SHOWN).expect("it is not zero");
    picture_of(data, seed, (count, COLUMNS), decoder).map(Some)
}
