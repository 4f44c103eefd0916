//! The features of the data that samples are compared with.

use meanflow_data::Dataset;
use tch::Tensor;

use crate::pictures::{bytes_of, chunk};
use crate::{EvalError, Extractor, Moments, Reference, Statistics};

/// Statistics of the data's features, and the features themselves where the data is pictures.
#[derive(Debug)]
pub struct ReferenceFeatures {
    statistics: Option<Statistics>,
    spatial: Option<Statistics>,
    rows: Option<Tensor>,
}

impl ReferenceFeatures {
    /// Of statistics from a file.
    pub fn of_statistics(file: Reference) -> Self {
        Self {
            statistics: Some(file.pooled),
            spatial: file.spatial,
            rows: None,
        }
    }

    /// Of every picture of `data`. Mean and covariance are made only where a Fréchet distance wants them. `progress` is
    /// called with the number of further pictures done.
    ///
    /// # Errors
    /// If a picture cannot be read, or its features are not finite; [`EvalError::TooFew`] for statistics of one picture.
    pub fn of_pictures(
        data: &dyn Dataset,
        extractor: &dyn Extractor,
        wants_statistics: bool,
        mut progress: impl FnMut(u64),
    ) -> Result<Self, EvalError> {
        let chunk = chunk(data.shape());
        let (mut rows, mut spatial) = (Vec::new(), None);
        for start in (0..data.len()).step_by(chunk) {
            let end = data.len().min(start + chunk);
            let found = extractor.extract(&bytes_of(data, start, end)?)?;
            if let (Some(places), true) = (&found.spatial, wants_statistics) {
                let moments = spatial.get_or_insert_with(|| Moments::new(places.size()[1]));
                moments.update(places)?;
            }
            rows.push(found.pooled);
            progress((end - start) as u64);
        }
        let rows = Tensor::cat(&rows, 0);
        let statistics = wants_statistics
            .then(|| Statistics::of(&rows))
            .transpose()?;
        Ok(Self {
            statistics,
            spatial: spatial.map(|moments| moments.compute()).transpose()?,
            rows: Some(rows),
        })
    }

    /// Mean and covariance of the pooled features.
    ///
    /// # Errors
    /// [`EvalError::Missing`] if they were not made.
    pub fn statistics(&self) -> Result<&Statistics, EvalError> {
        let missing = || EvalError::missing("statistics of the reference");
        self.statistics.as_ref().ok_or_else(missing)
    }

    /// Mean and covariance of the spatial features.
    ///
    /// # Errors
    /// [`EvalError::Missing`] if there are none.
    pub fn spatial_statistics(&self) -> Result<&Statistics, EvalError> {
        let missing = || EvalError::missing("spatial statistics of the reference");
        self.spatial.as_ref().ok_or_else(missing)
    }

    /// The pooled features of every picture, `[M, D]`.
    ///
    /// # Errors
    /// [`EvalError::Missing`] if the reference is statistics alone.
    pub fn rows(&self) -> Result<&Tensor, EvalError> {
        let missing = || EvalError::missing("pictures in the reference, but statistics alone");
        self.rows.as_ref().ok_or_else(missing)
    }
}
