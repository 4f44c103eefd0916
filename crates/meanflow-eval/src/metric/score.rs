//! The Inception Score as a metric.

use super::{Metric, MetricId, MetricInput, MetricOutput};
use crate::part::{Named, PartFile};
use crate::{EvalError, ReferenceFeatures, ScoreSums};

/// The Inception Score, from sums of class probabilities; it has no reference.
#[derive(Debug)]
pub struct ScoreMetric(ScoreSums);

impl ScoreMetric {
    /// Of `samples` samples in all, in `splits` parts, from logits of so many classes.
    ///
    /// # Errors
    /// [`EvalError::TooFew`] with fewer samples than parts, or no part.
    pub fn new(samples: u64, splits: u64, classes: i64) -> Result<Self, EvalError> {
        Ok(Self(ScoreSums::new(samples, splits, classes)?))
    }
}

impl Metric for ScoreMetric {
    fn update(&mut self, input: &MetricInput<'_>) -> Result<(), EvalError> {
        let logits = input.features.logits.as_ref();
        let logits = logits.ok_or_else(|| EvalError::missing("class probabilities"))?;
        self.0.update(input.start, logits)
    }

    fn state(&self, name: &str) -> Named {
        self.0.state(name)
    }

    fn merge(&mut self, file: &mut PartFile, name: &str) -> Result<(), EvalError> {
        self.0.merge(&ScoreSums::load(file, name)?)
    }

    fn compute(&self, _: &ReferenceFeatures) -> Result<MetricOutput, EvalError> {
        Ok(MetricOutput {
            values: vec![(MetricId::InceptionScore, self.0.compute()?.mean)],
            classes: None,
        })
    }
}
