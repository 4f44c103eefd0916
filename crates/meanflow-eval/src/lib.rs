//! Metrics of generated samples, over features of any kind, on libtorch.
//!
//! A metric takes features, `[N, D]`, of any float type and device, and computes in f64. Where they come from is an
//! [`Extractor`]. What needs sums alone is gathered batch by batch and
//! shard by shard, in [`Moments`] and [`ScoreSums`].
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
mod features;
mod frechet;
pub mod golden;
mod inception;
mod inception_score;
mod kernel;
mod laws;
mod manifold;
mod matrix;
mod moments;
mod nearest;
mod network;
mod part;
pub mod reference;
mod resize;
mod spread;
mod statistics;

pub use digits::{DIGITS_CLASSIFIER, digits_classifier, is_held_out};
pub use error::EvalError;
pub use features::{Extractor, Features, Pixels};
pub use frechet::frechet_distance;
pub use inception::{InceptionLayers, InceptionV3};
pub use inception_score::{ScoreSums, inception_score};
pub use kernel::{KernelSubsets, kernel_distance, kernel_distance_of};
pub use laws::{Laws, Probe};
pub use manifold::{PrecisionRecall, precision_recall};
pub use moments::Moments;
pub use nearest::{Neighbours, nearest};
pub use network::FeatureNetwork;
pub use part::{Named, PartFile};
pub use reference::{Reference, Spelling};
pub use resize::Resize;
pub use spread::Spread;
pub use statistics::Statistics;
