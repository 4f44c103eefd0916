//! Set-ups that the benchmarks share: models of the sizes that are compared, with a batch of random data.

mod clock;
mod options;
pub mod proof;
pub mod protocol;
mod repeated;
mod setting;
mod size;
mod training;

pub use clock::{median, milliseconds, timed};
pub use options::{Guide, MatmulPrecision, Options};
pub use repeated::{RepeatedStep, StepKind};
pub use size::{Batches, Size};
pub use training::{Training, Variant};
