//! How often a classifier finds the class that a sample was asked to have.

use serde::Serialize;
use tch::{Device, Kind, Tensor};

use super::{Metric, MetricId, MetricInput, MetricOutput};
use crate::error::libtorch;
use crate::part::{Named, PartFile};
use crate::{EvalError, ReferenceFeatures};

/// Of the samples that were asked to have one class, in how many it is found.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
pub struct ClassCount {
    /// Samples in which the classifier finds the class.
    pub found: u64,
    /// Samples that were asked to have it.
    pub asked: u64,
}

/// The share of samples in which a classifier finds the class asked for, in all and class by class.
#[derive(Debug)]
pub struct ClassAccuracy {
    /// Found and asked for each class, `[K, 2]`.
    counts: Tensor,
}

impl ClassAccuracy {
    /// For a classifier of so many classes.
    pub fn new(classes: i64) -> Self {
        Self {
            counts: Tensor::zeros([classes, 2], (Kind::Int64, Device::Cpu)),
        }
    }
}

impl Metric for ClassAccuracy {
    fn update(&mut self, input: &MetricInput<'_>) -> Result<(), EvalError> {
        let (Some(asked), Some(logits)) = (input.labels, &input.features.logits) else {
            return Err(EvalError::missing("classes of the samples"));
        };
        let asked = Tensor::from_slice(asked);
        let found = logits.argmax(1, false).to_device(Device::Cpu);
        let right = found.eq_tensor(&asked).to_kind(Kind::Int64);
        let pair = Tensor::stack(&[right, asked.ones_like()], 1);
        let _ = self
            .counts
            .f_index_add_(0, &asked, &pair)
            .map_err(libtorch("count classes"))?;
        Ok(())
    }

    fn state(&self, name: &str) -> Named {
        vec![(format!("{name}.counts"), self.counts.copy())]
    }

    fn merge(&mut self, file: &mut PartFile, name: &str) -> Result<(), EvalError> {
        let counts = file.take_counts(&format!("{name}.counts"), 2)?;
        if counts.size() != self.counts.size() {
            let (expected, got) = (self.counts.size(), counts.size());
            return Err(file.problem(format!("{name}: expected {expected:?}, got {got:?}")));
        }
        self.counts += counts;
        Ok(())
    }

    fn compute(&self, _: &ReferenceFeatures) -> Result<MetricOutput, EvalError> {
        let at = |class, column| self.counts.int64_value(&[class, column]) as u64;
        let counts = (0..self.counts.size()[0]).map(|class| ClassCount {
            found: at(class, 0),
            asked: at(class, 1),
        });
        let counts: Vec<ClassCount> = counts.collect();
        let found: u64 = counts.iter().map(|count| count.found).sum();
        let asked: u64 = counts.iter().map(|count| count.asked).sum();
        if asked == 0 {
            let (what, needed, got) = ("class accuracy", 1, 0);
            return Err(EvalError::TooFew { what, needed, got });
        }
        Ok(MetricOutput {
            values: vec![(MetricId::ClassAccuracy, found as f64 / asked as f64)],
            classes: Some(counts),
        })
    }
}
