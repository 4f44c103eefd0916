//! The parts that networks are made of, each written once over [`Dual`](crate::Dual).

mod block;
mod embedding;
mod linear;
mod patches;

pub use block::Block;
pub(crate) use block::{EPSILON, modulation};
pub use embedding::{LabelTable, TimeEmbedding, TimeTower};
pub use linear::Linear;
pub use patches::{PatchGrid, positions};
