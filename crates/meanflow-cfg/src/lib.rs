//! Classifier-free guidance baked into the MeanFlow target (M16–M21).
//!
//! Over [`meanflow_core`] alone: the guided velocity is one line over any [`meanflow_core::State`].

mod error;
pub mod guidance;
pub mod label_drop;
pub mod plan;
pub mod window;

pub use error::GuidanceError;
pub use guidance::{Coefficients, Guidance, guided_velocity};
pub use label_drop::{DropRows, LabelDrop};
pub use plan::GuidancePlan;
pub use window::Window;
