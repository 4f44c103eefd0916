//! What a training step is made of: a batch, the objective, its gradient, the optimiser and the averages.

pub(crate) mod batch;
pub(crate) mod data_parallel;
pub mod ema;
pub(crate) mod gradients;
pub(crate) mod guided;
pub(crate) mod inputs;
pub(crate) mod layout;
pub(crate) mod objective;
pub(crate) mod optimizer;
pub(crate) mod ranks;
pub(crate) mod sharded;
pub(crate) mod workers;
