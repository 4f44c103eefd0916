//! MeanFlow networks, forward-mode derivatives and training objective on libtorch.
//!
//! [`jvp()`] is `torch.func.jvp` for any closure over tensors. [`Dual`] carries a tangent beside a primal through a
//! network that is written once; [`Objective`] is the training loss made of it; [`sampler::sample`] draws samples.
//!
//! ```
//! use meanflow_core::Schedule;
//! use meanflow_torch::networks::{MlpConfig, NetworkConfig};
//! use meanflow_torch::layers::TimeEmbedding;
//! use meanflow_torch::sampler::{Request, sample, uniform_grid};
//! use meanflow_torch::{Device, Kind, Model, ModelConfig, Prediction};
//!
//! let network = NetworkConfig::Mlp(MlpConfig { width: 16, depth: 2, embedding: TimeEmbedding::TH });
//! let config = ModelConfig { network, shape: vec![2], classes: 0, schedule: Schedule::Linear, prediction: Prediction::Velocity };
//! let model = Model::new(config, 0, Device::Cpu, Kind::Float)?;
//! let request = Request { seeds: &[0, 1, 2], labels: None, grid: &uniform_grid(1), batch_size: 16 };
//! assert_eq!(sample(&model, &request)?.size(), [3, 2]);
//! # Ok::<(), meanflow_torch::TorchError>(())
//! ```

mod dual;
mod error;
pub mod layers;
mod model;
pub mod networks;
pub mod sampler;
mod tensor;
mod training;
pub mod weights;

pub use dual::jvp::jvp;
pub use dual::jvp_method::{JvpInputs, JvpMethod, Tangent};
pub use dual::{Dual, kernels};
pub use error::TorchError;
pub use meanflow_libtorch::{
    CudaGraph, Finding, LibtorchError, Peers, ProcessGroup, Progress, Seen, Shard, Stalled, Store,
    Supervisor, Team, World, device, host, loaded_version, memory, profile, recover,
};
pub use model::compute::{Compute, Dtype, Factor};
pub use model::condition::{Conditioning, Dropout};
pub use model::flops::Flops;
pub use model::parameters::{Initializer, Parameters, VarBuilder};
pub use model::passes::ForwardCounts;
pub use model::prediction::Prediction;
pub use model::{MODEL_KEY, Model, ModelConfig};
pub use tch::{Device, Kind, Tensor};
pub use tensor::{PerRow, Rows, per_row, squared_norms};
pub use training::batch::{Batch, OwnMicrobatches, in_batch_order};
pub use training::data_parallel::{Average, DataParallel, Differentiated};
pub use training::ema;
pub use training::gradients::{Gradients, PairwiseSum};
pub use training::inputs::StepInputs;
pub use training::objective::{Objective, StepLoss};
pub use training::optimizer::{Adam, AdamConfig};
pub use training::ranks::{GradientSum, Ranks};
pub use training::sharded::Sharded;
pub use training::workers::{Sharing, Workers};
pub use weights::{convert, init_from};

/// The code in the README compiles and runs.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
