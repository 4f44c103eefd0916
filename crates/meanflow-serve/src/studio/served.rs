//! A model that is served.

use meanflow_torch::Model;
use meanflow_train::latents::LatentDecoder;

/// A model with what makes pictures of its samples.
#[derive(Debug)]
pub(crate) struct Served {
    pub(crate) model: Model,
    pub(crate) decoder: Option<LatentDecoder>,
}
