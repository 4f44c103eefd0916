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
//! use meanflow_torch::{Device, Kind, Model, ModelConfig};
//!
//! let network = NetworkConfig::Mlp(MlpConfig { width: 16, depth: 2, embedding: TimeEmbedding::TH });
//! let config = ModelConfig { network, shape: vec![2], classes: 0, schedule: Schedule::Linear };
//! let model = Model::new(config, 0, Device::Cpu, Kind::Float)?;
//! let request = Request { seeds: &[0, 1, 2], labels: None, grid: &uniform_grid(1), micro_batch: 16 };
//! assert_eq!(sample(&model, &request)?.size(), [3, 2]);
//! # Ok::<(), meanflow_torch::TorchError>(())
//! ```

mod attention;
mod batch;
mod checkpoint;
mod compute;
mod condition;
mod content;
pub mod convert;
mod data_parallel;
pub mod device_check;
mod dual;
pub mod ema;
pub mod engine;
mod error;
pub mod golden;
mod gradients;
mod guided;
pub mod init_from;
mod inputs;
mod jvp;
mod kernels;
pub mod layers;
mod model;
pub mod networks;
mod objective;
mod optimizer;
mod parameters;
mod passes;
pub mod sampler;
mod tensor;
pub mod weights;
mod work;
mod workers;

pub use batch::{Batch, in_batch_order};
pub use compute::{Compute, Dtype, Factor};
pub use condition::{Conditioning, Dropout};
pub use data_parallel::{Average, DataParallel, Differentiated};
pub use dual::Dual;
pub use engine::JvpMethod;
pub use error::TorchError;
pub use gradients::{Gradients, PairwiseSum};
pub use inputs::StepInputs;
pub use jvp::jvp;
pub use meanflow_libtorch::{
    CudaGraph, LibtorchError, ProcessGroup, Store, device, host, loaded_version, memory, profile,
    recover,
};
pub use model::{MODEL_KEY, Model, ModelConfig};
pub use objective::{Objective, StepLoss};
pub use optimizer::{Adam, AdamConfig};
pub use parameters::{Initializer, Parameters, VarBuilder};
pub use passes::ForwardCounts;
pub use tch::{Device, Kind, Tensor};
pub use tensor::Rows;
pub use work::Work;
pub use workers::{Sharing, Workers};

/// The code in the README compiles and runs.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
