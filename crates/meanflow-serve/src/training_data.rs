//! The training data of models, read when they are asked for first.

use std::sync::OnceLock;

use crate::api_error::ApiError;
use crate::catalogue::ModelEntry;

/// Most bytes of samples in memory, of one model.
const MOST_BYTES: usize = 1 << 30;
/// Samples that are read at a time.
const CHUNK: usize = 256;

/// The data of every model, in the order of the catalogue.
#[derive(Debug)]
pub(crate) struct TrainingData(Vec<OnceLock<Result<Loaded, ApiError>>>);

#[derive(Debug)]
struct Loaded {
    /// `[N, …]`.
    values: Vec<f32>,
    labels: Vec<i64>,
    size: usize,
}

/// The samples of the data that are nearest to one, nearest first.
#[derive(Debug)]
pub(crate) struct Near {
    pub(crate) rows: Vec<NearRow>,
    /// Their values, `[rows, …]`.
    pub(crate) values: Vec<f32>,
    /// How many samples were compared.
    pub(crate) of: usize,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct NearRow {
    /// The place in the data.
    pub(crate) number: usize,
    pub(crate) label: Option<i64>,
    /// Root mean square of the differences of values.
    pub(crate) distance: f64,
}

impl TrainingData {
    pub(crate) fn new(models: usize) -> Self {
        Self((0..models).map(|_| OnceLock::new()).collect())
    }

    /// The samples of the data of the model at `place` that are nearest to this one. Waits for the disk.
    pub(crate) fn nearest(
        &self,
        model: &ModelEntry,
        place: usize,
        sample: &[f32],
        count: usize,
    ) -> Result<Near, ApiError> {
        let loaded = self.0[place].get_or_init(|| Loaded::of(model));
        let loaded = loaded.as_ref().map_err(Clone::clone)?;
        let mut rows: Vec<NearRow> = loaded.distances(sample).collect();
        let count = count.min(rows.len());
        rows.sort_by(|one, other| one.distance.total_cmp(&other.distance));
        let of = rows.len();
        rows.truncate(count);
        let value = |row: &NearRow| &loaded.values[row.number * loaded.size..][..loaded.size];
        let values = rows
            .iter()
            .flat_map(|row| value(row).iter().copied())
            .collect();
        Ok(Near { rows, values, of })
    }
}

impl Loaded {
    fn of(model: &ModelEntry) -> Result<Self, ApiError> {
        let Some((config, seed)) = &model.data else {
            return Err(ApiError::unknown("training data of model", &model.id));
        };
        let data = config.load(*seed)?;
        let shape: Vec<i64> = data.shape().iter().map(|&side| side as i64).collect();
        if shape != model.shape {
            let expected = format!("training data of shape {:?}", model.shape);
            return Err(ApiError::bad("model", expected, format!("{shape:?}")));
        }
        let size = data.shape().iter().product::<usize>();
        let bytes = size
            .saturating_mul(data.len())
            .saturating_mul(size_of::<f32>());
        if bytes > MOST_BYTES {
            let expected = format!("training data of at most {MOST_BYTES} bytes in memory");
            return Err(ApiError::bad("model", expected, bytes));
        }
        let mut values = Vec::with_capacity(size * data.len());
        for start in (0..data.len()).step_by(CHUNK) {
            let indices: Vec<usize> = (start..data.len().min(start + CHUNK)).collect();
            let read = data.batch(&indices, 0, 0).map_err(ApiError::internal)?;
            values.extend(read.values);
        }
        let labels = data.labels().to_vec();
        Ok(Self {
            values,
            labels,
            size,
        })
    }

    fn distances(&self, sample: &[f32]) -> impl Iterator<Item = NearRow> {
        let rows = self.values.chunks_exact(self.size).enumerate();
        rows.map(move |(number, row)| {
            let pairs = row.iter().zip(sample);
            let square: f64 = pairs
                .map(|(one, other)| f64::from(one - other).powi(2))
                .sum();
            NearRow {
                number,
                label: self.labels.get(number).copied(),
                distance: (square / self.size as f64).sqrt(),
            }
        })
    }
}
