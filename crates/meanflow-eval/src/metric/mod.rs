//! Metrics as objects that take samples in batch by batch and shard by shard: `update`, `merge`, `compute`, `state`.

mod class_accuracy;
mod distances;
mod id;
mod score;

use std::fmt::Debug;

use tch::{Device, Kind, Tensor};

use crate::part::{Named, PartFile};
use crate::{EvalError, Features, ReferenceFeatures, matrix};

pub use class_accuracy::{ClassAccuracy, ClassCount};
pub use distances::{FrechetMetric, PairwiseMetric};
pub use id::{MetricFamily, MetricId};
pub use score::ScoreMetric;

/// Consecutive samples with their features, as a [`Metric`] takes them in.
#[derive(Debug)]
pub struct MetricInput<'a> {
    /// The number of the first sample within its repetition.
    pub start: u64,
    /// The features of the samples, a row each.
    pub features: &'a Features,
    /// The class that each sample was asked to have; `None` where no class was asked for.
    pub labels: Option<&'a [i64]>,
}

/// The values of a metric, and the counts of every class where the metric has them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MetricOutput {
    /// Each value with its identity.
    pub values: Vec<(MetricId, f64)>,
    /// One count for each class.
    pub classes: Option<Vec<ClassCount>>,
}

/// A metric over samples that come in batches and shards.
///
/// Samples are added by [`Metric::update`]. Another process writes its [`Metric::state`] to a file, which
/// [`Metric::merge`] adds to that of the samples before them. [`Metric::compute`] may be called at any time.
pub trait Metric: Debug {
    /// Adds samples.
    ///
    /// # Errors
    /// If their features have another shape, or are not finite.
    fn update(&mut self, input: &MetricInput<'_>) -> Result<(), EvalError>;

    /// The state as tensors, under names that begin with `name`; nothing if there were no samples.
    fn state(&self, name: &str) -> Named;

    /// Adds the samples of the shard that follows, from the state that is in its file under `name`.
    ///
    /// # Errors
    /// If the file holds something else there.
    fn merge(&mut self, file: &mut PartFile, name: &str) -> Result<(), EvalError>;

    /// The values for the samples that were added, compared with the reference.
    ///
    /// # Errors
    /// If there are too few samples, or the reference does not fit.
    fn compute(&self, reference: &ReferenceFeatures) -> Result<MetricOutput, EvalError>;
}

/// Features that are all kept, in f32 on the CPU. A batch that is there already is shared, not copied.
#[derive(Debug, Default)]
struct FeatureRows(Vec<Tensor>);

impl FeatureRows {
    fn push(&mut self, features: &Tensor) -> Result<(), EvalError> {
        matrix::check("features", features)?;
        self.same_width(features)?;
        let cpu = features.detach().to_device(Device::Cpu);
        self.0.push(cpu.to_kind(Kind::Float));
        Ok(())
    }

    fn all(&self) -> Result<Tensor, EvalError> {
        if self.0.is_empty() {
            let (what, needed, got) = ("features", 1, 0);
            return Err(EvalError::TooFew { what, needed, got });
        }
        Ok(Tensor::cat(&self.0, 0))
    }

    fn state(&self, name: &str) -> Named {
        let rows = self.all().ok();
        rows.into_iter()
            .map(|rows| (format!("{name}.rows"), rows))
            .collect()
    }

    fn merge(&mut self, file: &mut PartFile, name: &str) -> Result<(), EvalError> {
        let name = format!("{name}.rows");
        if file.has(&name) {
            let rows = file.take(&name, 2, Kind::Float)?;
            self.push(&rows)?;
        }
        Ok(())
    }

    fn same_width(&self, rows: &Tensor) -> Result<(), EvalError> {
        match self.0.first() {
            Some(first) if first.size()[1] != rows.size()[1] => Err(EvalError::Shape {
                what: "features",
                expected: format!("[N, {}]", first.size()[1]),
                got: rows.size(),
            }),
            _ => Ok(()),
        }
    }
}
