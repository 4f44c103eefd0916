//! Metrics of generated samples, over features of any kind, on libtorch.
//!
//! A metric takes features, `[N, D]`, of any float type and device, and computes in f64. Where they come from is an
//! [`Extractor`]. A [`Metric`] takes samples in batch by batch and shard by shard; an [`Evaluation`] decides which metrics are
//! possible, keeps their state while samples are drawn, and computes their values. The formulas are functions of their own.
//!
//! ```
//! use meanflow_eval::{Statistics, frechet_distance};
//! use meanflow_torch::Tensor;
//!
//! // Standard deviations 1 and 3, means 0 and 1: 1² + (3 − 1)².
//! let (zero, one) = (Tensor::from_slice(&[0.0]), Tensor::from_slice(&[1.0]));
//! let a = Statistics::new(&zero, &Tensor::from_slice(&[1.0]).reshape([1, 1]))?;
//! let b = Statistics::new(&one, &Tensor::from_slice(&[9.0]).reshape([1, 1]))?;
//! assert!((frechet_distance(&a, &b)? - 5.0).abs() < 1e-12);
//! # Ok::<(), meanflow_eval::EvalError>(())
//! ```

mod digits;
mod distances;
mod error;
mod estimate;
mod evaluation;
mod features;
mod frechet;
mod inception;
mod inception_score;
mod kernel;
mod manifold;
mod matrix;
mod memorisation;
mod metric;
mod moments;
mod nearest;
mod network;
mod part;
pub mod pictures;
pub mod reference;
mod reference_features;
mod residuals;
mod resize;
mod spread;
mod statistics;

pub use digits::{DIGITS_CLASSIFIER, digits_classifier, is_held_out};
pub use error::EvalError;
pub use estimate::Estimate;
pub use evaluation::{
    EvalConfig, Evaluation, FeatureDims, Omitted, ReferenceFacts, RepetitionResult,
    RepetitionState, SampleBatch, estimates,
};
pub use features::{Extractor, FeatureSet, Features, Pixels};
pub use frechet::frechet_distance;
pub use inception::{InceptionLayers, InceptionV3};
pub use inception_score::{ScoreSums, inception_score};
pub use kernel::{KernelSubsets, kernel_distance, kernel_distance_of};
pub use manifold::{PrecisionRecall, precision_recall};
pub use memorisation::Memorisation;
pub use metric::{
    ClassAccuracy, ClassCount, FrechetMetric, Metric, MetricFamily, MetricId, MetricInput,
    MetricOutput, PairwiseMetric, ScoreMetric,
};
pub use moments::Moments;
pub use nearest::{Neighbours, nearest};
pub use network::FeatureNetwork;
pub use part::{Named, PartFile};
pub use reference::{Reference, Spelling};
pub use reference_features::ReferenceFeatures;
pub use residuals::{Probe, Residuals};
pub use resize::Resize;
pub use spread::Spread;
pub use statistics::Statistics;

/// The code in the README compiles and runs.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
