//! How near samples are to the data.

use serde::Serialize;
use tch::Tensor;

use crate::{EvalError, nearest};

/// How near samples are to the data, beside how near the data is to itself: medians of distances between features.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Memorisation {
    /// From a sample to the picture of the data nearest to it.
    pub sample_to_data: f64,
    /// From a picture of the data to the other one nearest to it.
    pub data_to_data: f64,
    /// For each sample, the number of the picture of the data that is nearest to it.
    pub nearest: Vec<i64>,
    /// For each sample, how far that one is.
    pub distances: Vec<f64>,
}

/// Pictures of the data whose neighbours are looked for.
const MOST_DATA: i64 = 1000;

impl Memorisation {
    /// Of the features of some samples, `[B, D]`, and of all data, `[M, D]`.
    ///
    /// # Errors
    /// [`EvalError::TooFew`] of one picture of the data; [`EvalError::Shape`]; [`EvalError::NotFinite`].
    pub fn of(samples: &Tensor, data: &Tensor) -> Result<Self, EvalError> {
        let found = nearest(samples, data, 1)?;
        let distances: Vec<f64> = found.distances.iter().map(|row| row[0]).collect();
        let rows = data.size()[0].min(MOST_DATA);
        // The nearest to a picture of the data is itself.
        let among = nearest(&data.narrow(0, 0, rows), data, 2)?;
        Ok(Self {
            sample_to_data: median(distances.clone()),
            data_to_data: median(among.distances.iter().map(|row| row[1]).collect()),
            nearest: found.indices.iter().map(|row| row[0]).collect(),
            distances,
        })
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
