//! The parts that networks are made of, each written once over [`Dual`](crate::Dual).

mod block;
mod convolution;
mod embedding;
mod linear;
mod patches;
mod resample;

pub use block::Block;
pub(crate) use block::{EPSILON, modulation, modulation_flops};
pub use convolution::{Convolution, GroupNorm, HalvingConvolution};
pub use embedding::{LabelEmbedder, TimeEmbedding, TimestepEmbedder};
pub use linear::Linear;
pub use patches::{PatchGrid, sincos_pos_embed};
pub(crate) use resample::outer;
pub use resample::{Resample, Resize};
