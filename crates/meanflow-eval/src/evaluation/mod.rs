//! One evaluation: which metrics are computed of which samples, what is kept of the samples as they are drawn, and the values.
//!
//! [`Evaluation::new`] decides what can be computed and says what cannot. [`Evaluation::collect`] takes samples in, in this process or
//! in several; [`Evaluation::compute`] compares them with the reference.

mod plan;
mod state;

use std::collections::BTreeMap;

use tch::Tensor;

use crate::{
    ClassCount, Estimate, EvalError, Extractor, FeatureSet, KernelSubsets, Metric, MetricFamily,
    MetricId, ReferenceFeatures, pictures,
};

use plan::Planned;
pub use plan::{Omitted, ReferenceFacts};
pub use state::{RepetitionState, SampleBatch};

/// What is evaluated, and by which settings of the metrics.
#[derive(Clone, Debug, PartialEq)]
pub struct EvalConfig {
    /// Which metrics.
    pub families: Vec<MetricFamily>,
    /// Samples of one repetition.
    pub samples: u64,
    /// Classes that samples are asked to have; 0 where no class is asked for.
    pub classes: u64,
    /// Subsets of the kernel distance; they are made smaller where there are fewer samples.
    pub kernel: KernelSubsets,
    /// Neighbours that span the manifolds of precision and recall.
    pub neighbours: u64,
    /// Parts of the Inception Score.
    pub splits: u64,
}

impl EvalConfig {
    /// All metrics of so many samples, by the settings of most publications.
    pub fn new(samples: u64, classes: u64) -> Self {
        let (subsets, size, seed) = (100, 1000, 0);
        Self {
            families: vec![
                MetricFamily::Frechet,
                MetricFamily::Kernel,
                MetricFamily::PrecisionRecall,
                MetricFamily::Score,
            ],
            samples,
            classes,
            kernel: KernelSubsets {
                subsets,
                size,
                seed,
            },
            neighbours: 3,
            splits: 10,
        }
    }
}

/// How many numbers an extractor gives a picture.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct FeatureDims {
    /// Pooled features.
    pub pooled: u64,
    /// Spatial features, where there are some.
    pub spatial: Option<u64>,
    /// Logits, where the extractor is a classifier.
    pub logits: Option<u64>,
}

/// An evaluation whose metrics are known to be possible.
pub struct Evaluation<'a> {
    extractor: &'a dyn Extractor,
    features: FeatureSet,
    dims: FeatureDims,
    config: EvalConfig,
    reference: ReferenceFacts,
    planned: Vec<Planned>,
    omitted: Vec<Omitted>,
}

/// The values of one repetition.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RepetitionResult {
    /// Each metric that was computed.
    pub values: BTreeMap<MetricId, f64>,
    /// The counts of every class, where classes were asked for.
    pub classes: Option<Vec<ClassCount>>,
}

impl<'a> Evaluation<'a> {
    /// Decides what can be computed of samples of shape `[C, H, W]`, of which a black one is made features of to see how many there are.
    ///
    /// # Errors
    /// [`EvalError::Unfit`] if the reference's statistics are of other features; what the extractor says of such pictures.
    pub fn new(
        extractor: &'a dyn Extractor,
        shape: [usize; 3],
        reference: ReferenceFacts,
        config: EvalConfig,
    ) -> Result<Self, EvalError> {
        let black = vec![-1.0; shape.iter().product()];
        let found = extractor.extract(&pictures::to_bytes(&black, &shape))?;
        let count = |x: &Tensor| x.size()[1] as u64;
        let dims = FeatureDims {
            pooled: count(&found.pooled),
            spatial: found.spatial.as_ref().map(count),
            logits: found.logits.as_ref().map(count),
        };
        let features = extractor.features();
        let (planned, omitted) = plan::plan(&features, dims, reference, &config)?;
        Ok(Self {
            extractor,
            features,
            dims,
            config,
            reference,
            planned,
            omitted,
        })
    }

    /// Which features.
    pub fn features(&self) -> &FeatureSet {
        &self.features
    }

    /// How many numbers a picture.
    pub fn dims(&self) -> FeatureDims {
        self.dims
    }

    /// The settings.
    pub fn config(&self) -> &EvalConfig {
        &self.config
    }

    /// The metrics that will be computed, in the order of reports.
    pub fn metrics(&self) -> Vec<MetricId> {
        let mut ids: Vec<MetricId> = self
            .planned
            .iter()
            .flat_map(|planned| planned.ids())
            .collect();
        ids.sort_unstable();
        ids
    }

    /// The metrics that were asked for and cannot be computed, each with the reason.
    pub fn omitted(&self) -> &[Omitted] {
        &self.omitted
    }

    /// The subsets of the kernel distance that are taken; `None` where it is not computed.
    pub fn kernel_subsets(&self) -> Option<KernelSubsets> {
        self.planned.iter().find_map(|planned| match planned {
            Planned::Kernel(subsets) => Some(*subsets),
            _ => None,
        })
    }

    /// Whether the reference needs mean and covariance.
    pub fn needs_statistics(&self) -> bool {
        self.metrics().contains(&MetricId::FrechetDistance)
    }

    /// What a reader of the values has to know of their number of samples.
    pub fn notes(&self) -> Vec<String> {
        plan::notes(
            &self.features,
            self.dims,
            self.reference,
            &self.planned,
            &self.config,
        )
    }

    /// About how many bytes features and their statistics take at most, beside the networks and the pictures themselves.
    pub fn memory(&self) -> u64 {
        plan::memory(self.dims, self.reference, &self.planned, &self.config)
    }

    /// The metrics, without any sample.
    fn fresh(&self) -> Result<Vec<Box<dyn Metric>>, EvalError> {
        self.planned
            .iter()
            .map(|planned| planned.metric(self.dims, &self.config))
            .collect()
    }

    /// The values of one repetition.
    ///
    /// # Errors
    /// [`EvalError::TooFew`] while samples are missing; as the metrics themselves.
    pub fn compute(
        &self,
        state: &RepetitionState,
        reference: &ReferenceFeatures,
    ) -> Result<RepetitionResult, EvalError> {
        let mut result = RepetitionResult::default();
        for metric in &state.metrics {
            let output = metric.compute(reference)?;
            result.values.extend(output.values);
            result.classes = output.classes.or(result.classes);
        }
        Ok(result)
    }
}

/// Every metric over the repetitions.
pub fn estimates(results: &[RepetitionResult]) -> BTreeMap<MetricId, Estimate> {
    let mut values = BTreeMap::<MetricId, Vec<f64>>::new();
    for result in results {
        for (&id, &value) in &result.values {
            values.entry(id).or_default().push(value);
        }
    }
    let estimates = values.into_iter();
    estimates
        .map(|(id, values)| (id, Estimate::of(values)))
        .collect()
}
