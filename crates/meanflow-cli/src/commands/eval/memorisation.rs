//! How near samples are to the data.

use meanflow_eval::{Extractor, nearest};
use meanflow_torch::Tensor;
use serde::Serialize;

use super::reference::Data;

/// How near samples are to the data, beside how near the data is to itself: distances of features, medians.
#[derive(Debug, Serialize)]
pub(super) struct Memorisation {
    pub(super) sample_to_data: f64,
    pub(super) data_to_data: f64,
    /// The picture of the data that is nearest to each of the first samples.
    pub(super) nearest: Vec<i64>,
    pub(super) distances: Vec<f64>,
}

/// Pictures of the data whose neighbours are looked for.
const MOST_DATA: i64 = 1000;

impl Memorisation {
    /// Of the first samples, bytes `[B, C, H, W]`.
    pub(super) fn of(
        data: &Data,
        first: &Tensor,
        extractor: &dyn Extractor,
    ) -> anyhow::Result<Self> {
        let samples = extractor.extract(first)?.pooled;
        let found = nearest(&samples, &data.features, 1)?;
        let distances: Vec<f64> = found.distances.iter().map(|row| row[0]).collect();
        let rows = data.features.size()[0].min(MOST_DATA);
        // The nearest to a picture of the data is itself.
        let among = nearest(&data.features.narrow(0, 0, rows), &data.features, 2)?;
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
