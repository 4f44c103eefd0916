//! What the tests of several crates begin with: small networks, batches for them, their losses and gradients.
//!
//! The functions panic where a test would: nothing but tests calls them.
//!
//! ```
//! use meanflow_cfg::Guidance;
//! use meanflow_testing::{batch, dit_model, objective};
//! use meanflow_torch::layers::TimeEmbedding;
//!
//! let model = dit_model(TimeEmbedding::TH, 10);
//! let loss = objective(Guidance::NONE).loss(&model, &batch(&model, 4, 0.5, &[])).unwrap();
//! assert!(loss.loss.double_value(&[]).is_finite());
//! ```

pub mod gaussian;
pub mod networks;
mod steps;

pub use networks::{config, dit_model, mlp_model, models, normal, random_model, randomise};
pub use steps::{agrees, batch, gradients, objective, relative};
