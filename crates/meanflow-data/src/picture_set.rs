//! Pictures of a collection as samples of one size.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use crate::dataset::picked;
use crate::decode::Channels;
use crate::memory_dataset::from_byte;
use crate::resize::center_crop;
use crate::{DataError, Dataset, DatasetInfo, Examples, ImageArchive, Picture};

/// What happens to a picture that cannot be decoded.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum BadPictures {
    /// It is an error.
    Refuse,
    /// The next good one, in the order of the collection, is taken for it, until there are more bad ones than this
    /// share of the collection.
    Skip(f64),
}

/// A collection, each picture cut to its centre square of one size as [`center_crop`] does, and decoded when it is
/// drawn: as large as the disk, not the memory.
#[derive(Debug)]
pub struct ImageDataset {
    collection: ImageArchive,
    info: DatasetInfo,
    channels: Channels,
    bad: BadPictures,
    /// The bad ones found until now, with the reason.
    found: Mutex<BTreeMap<usize, String>>,
}

impl ImageDataset {
    /// Samples of `size`×`size` pixels.
    ///
    /// # Errors
    /// [`DataError::Shape`] for a size of 0, or a share of bad pictures outside [0, 1).
    pub fn new(
        collection: ImageArchive,
        size: usize,
        channels: Channels,
        bad: BadPictures,
    ) -> Result<Self, DataError> {
        if size == 0 {
            return DataError::misfit("size of a picture", "at least 1", size);
        }
        if let BadPictures::Skip(share) = bad
            && !(0.0..1.0).contains(&share)
        {
            return DataError::misfit("share of bad pictures", "a number in [0, 1)", share);
        }
        let info = DatasetInfo {
            shape: vec![channels.count(), size, size],
            len: collection.len(),
            classes: collection.classes(),
            labels: collection.labels().to_vec(),
            class_names: collection.class_names().map(<[String]>::to_vec),
            latents: None,
        };
        Ok(Self {
            collection,
            info,
            channels,
            bad,
            found: Mutex::default(),
        })
    }

    /// The collection.
    pub fn collection(&self) -> &ImageArchive {
        &self.collection
    }

    /// The picture, or the one that is taken for it, and its index.
    fn picture(&self, index: usize) -> Result<(usize, Picture), DataError> {
        let BadPictures::Skip(share) = self.bad else {
            return Ok((index, self.decode(index)?));
        };
        let count = self.collection.len();
        let limit = (share * count as f64) as usize;
        for step in 0..count {
            let index = (index + step) % count;
            let error = match self.decode(index) {
                Ok(picture) => return Ok((index, picture)),
                // A picture that is whole, about which nothing was decided.
                Err(error @ DataError::Transparent { .. }) => return Err(error),
                Err(error) => error,
            };
            let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
            found.insert(index, error.to_string());
            if found.len() > limit {
                return Err(error);
            }
        }
        unreachable!("the limit is below the number of pictures")
    }

    fn decode(&self, index: usize) -> Result<Picture, DataError> {
        let picture = self.collection.decode(index, self.channels)?;
        center_crop(&picture, self.info.shape[1])
    }
}

impl Dataset for ImageDataset {
    fn info(&self) -> &DatasetInfo {
        &self.info
    }

    fn fingerprint(&self) -> Result<String, DataError> {
        self.collection.fingerprint()
    }

    fn remarks(&self) -> Vec<String> {
        self.collection.remarks().to_vec()
    }

    fn batch(&self, indices: &[usize], _seed: u64, _step: u64) -> Result<Examples, DataError> {
        let channels = self.channels.count();
        let size = self.info.shape.iter().product::<usize>();
        let mut values = Vec::with_capacity(indices.len() * size);
        let mut labels = Vec::new();
        for &index in indices {
            let (index, picture) = self.picture(index)?;
            for channel in 0..channels {
                let pixels = picture.pixels().iter().skip(channel).step_by(channels);
                values.extend(pixels.map(|&byte| from_byte(byte)));
            }
            labels.extend(self.labels().get(index));
        }
        Ok(Examples {
            values,
            labels,
            augment: None,
        })
    }

    fn batch_rows(
        &self,
        indices: &[usize],
        rows: &[usize],
        seed: u64,
        step: u64,
    ) -> Result<Examples, DataError> {
        self.batch(&picked(indices, rows), seed, step)
    }

    fn skipped(&self) -> Vec<(PathBuf, String)> {
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        let named =
            |(&index, reason): (&usize, &String)| (self.collection.path(index), reason.clone());
        found.iter().map(named).collect()
    }
}
