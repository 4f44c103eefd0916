//! The mathematics of MeanFlow: paths, times, the identity, solvers and closed forms.
//!
//! Nothing here knows a tensor library, reads a file, prints, or owns a global random generator. A formula is
//! written once, over [`State`], and holds for a number, an [`ndarray`] batch, or a tensor of another crate.
//! Equation numbers such as (M11) are those of the project's numbered derivation.
//!
//! Time runs from data, `t = 0`, to noise, `t = 1`, and `0 ≤ r ≤ t ≤ 1` everywhere.

mod error;
pub mod identity;
pub mod interval;
pub mod oracle;
pub mod random;
pub mod schedule;
pub mod solver;
pub mod state;
pub mod times;
pub mod weighting;

pub use error::CoreError;
pub use identity::{Leg, consistency_residual, displacement, identity_residual, jump, target};
pub use interval::{Interval, IntervalError};
pub use random::{Purpose, Stream};
pub use schedule::{PathPoint, Scalar, Schedule};
pub use state::{Norm, State};
pub use times::{IntervalLaw, JumpRows, MaskOrder, TimeDraw, TimeLaw};
pub use weighting::{AdaptiveWeight, Elementwise, Reduction};
