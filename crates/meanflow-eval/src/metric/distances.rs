//! The metrics that compare features of samples with features of data.

use tch::Tensor;

use super::{FeatureRows, Metric, MetricId, MetricInput, MetricOutput};
use crate::part::{Named, PartFile};
use crate::{
    EvalError, Features, KernelSubsets, Moments, ReferenceFeatures, Statistics, frechet_distance,
    kernel_distance, precision_recall,
};

/// The Fréchet distance of pooled or spatial features.
///
/// Of at least as many samples as features, sums of `D²` numbers are kept; of fewer, the features themselves. So the state never
/// takes more than the smaller of the two.
#[derive(Debug)]
pub struct FrechetMetric {
    id: MetricId,
    fit: Fit,
}

#[derive(Debug)]
enum Fit {
    Sums(Moments),
    Rows(FeatureRows),
}

impl FrechetMetric {
    /// Of pooled features with `dims` numbers, for `samples` samples in all.
    pub fn pooled(dims: i64, samples: u64) -> Self {
        Self::new(MetricId::FrechetDistance, dims, samples)
    }

    /// Of spatial features with `dims` numbers, for `samples` samples in all.
    pub fn spatial(dims: i64, samples: u64) -> Self {
        Self::new(MetricId::SpatialFrechetDistance, dims, samples)
    }

    fn new(id: MetricId, dims: i64, samples: u64) -> Self {
        let fit = if samples < dims as u64 {
            Fit::Rows(FeatureRows::default())
        } else {
            Fit::Sums(Moments::new(dims))
        };
        Self { id, fit }
    }

    fn features<'a>(&self, features: &'a Features) -> Result<&'a Tensor, EvalError> {
        match (self.id, &features.spatial) {
            (MetricId::SpatialFrechetDistance, Some(spatial)) => Ok(spatial),
            (MetricId::SpatialFrechetDistance, None) => Err(EvalError::missing("spatial features")),
            _ => Ok(&features.pooled),
        }
    }
}

impl Metric for FrechetMetric {
    fn update(&mut self, input: &MetricInput<'_>) -> Result<(), EvalError> {
        let features = self.features(input.features)?;
        match &mut self.fit {
            Fit::Sums(moments) => moments.update(features),
            Fit::Rows(rows) => rows.push(features),
        }
    }

    fn state(&self, name: &str) -> Named {
        match &self.fit {
            Fit::Sums(moments) => moments.state(name),
            Fit::Rows(rows) => rows.state(name),
        }
    }

    fn merge(&mut self, file: &mut PartFile, name: &str) -> Result<(), EvalError> {
        match &mut self.fit {
            Fit::Sums(moments) => moments.merge(&Moments::load(file, name)?),
            Fit::Rows(rows) => rows.merge(file, name),
        }
    }

    fn compute(&self, reference: &ReferenceFeatures) -> Result<MetricOutput, EvalError> {
        let statistics = match &self.fit {
            Fit::Sums(moments) => moments.compute()?,
            Fit::Rows(rows) => Statistics::of(&rows.all()?)?,
        };
        let data = match self.id {
            MetricId::SpatialFrechetDistance => reference.spatial_statistics()?,
            _ => reference.statistics()?,
        };
        Ok(value(self.id, frechet_distance(&statistics, data)?))
    }
}

/// A metric of features in pairs, for which all of them are kept.
#[derive(Debug)]
pub struct PairwiseMetric {
    rows: FeatureRows,
    formula: PairwiseFormula,
}

#[derive(Debug)]
enum PairwiseFormula {
    Kernel(KernelSubsets),
    /// With the number of neighbours.
    PrecisionRecall(u64),
}

impl PairwiseMetric {
    /// The kernel distance, averaged over these subsets.
    pub fn kernel(subsets: KernelSubsets) -> Self {
        Self::new(PairwiseFormula::Kernel(subsets))
    }

    /// Precision and recall with manifolds that reach to so many nearest neighbours.
    pub fn precision_recall(neighbours: u64) -> Self {
        Self::new(PairwiseFormula::PrecisionRecall(neighbours))
    }

    fn new(formula: PairwiseFormula) -> Self {
        let rows = FeatureRows::default();
        Self { rows, formula }
    }
}

impl Metric for PairwiseMetric {
    fn update(&mut self, input: &MetricInput<'_>) -> Result<(), EvalError> {
        self.rows.push(&input.features.pooled)
    }

    fn state(&self, name: &str) -> Named {
        self.rows.state(name)
    }

    fn merge(&mut self, file: &mut PartFile, name: &str) -> Result<(), EvalError> {
        self.rows.merge(file, name)
    }

    fn compute(&self, reference: &ReferenceFeatures) -> Result<MetricOutput, EvalError> {
        let (samples, data) = (self.rows.all()?, reference.rows()?);
        match &self.formula {
            PairwiseFormula::Kernel(subsets) => {
                let distance = kernel_distance(&samples, data, subsets)?;
                Ok(value(MetricId::KernelDistance, distance.mean))
            }
            PairwiseFormula::PrecisionRecall(neighbours) => {
                let found = precision_recall(&samples, data, *neighbours)?;
                Ok(MetricOutput {
                    values: vec![
                        (MetricId::Precision, found.precision),
                        (MetricId::Recall, found.recall),
                    ],
                    classes: None,
                })
            }
        }
    }
}

fn value(id: MetricId, value: f64) -> MetricOutput {
    MetricOutput {
        values: vec![(id, value)],
        classes: None,
    }
}
