//! Classifier-free guidance baked into the MeanFlow target (M16–M21).
//!
//! Over [`meanflow_core`] alone: the guided velocity is one line over any [`meanflow_core::State`]. It takes the place
//! of the path's velocity in the target, so the network learns the guided field, and sampling costs no second network
//! evaluation:
//!
//! ```
//! use meanflow_cfg::{Guidance, GuidancePlan, GuidanceInterval, guided_velocity};
//! use meanflow_core::{Interval, TimeDraw, target};
//! use ndarray::array;
//!
//! // ω = 1 and κ = ½ act as a scale of 2 (M21), here at times up to 0.8.
//! let guidance = Guidance::new(1.0, 0.5, GuidanceInterval::new(0.0, 0.8)?)?;
//! assert_eq!(guidance.effective_scale(), 2.0);
//!
//! // Three samples: a jump, a jump that starts outside the interval, and one at r = t.
//! let intervals = vec![Interval::new(0.1, 0.6)?, Interval::new(0.2, 0.9)?, Interval::new(0.5, 0.5)?];
//! let times = TimeDraw { intervals, jumps: 2 };
//! let plan = GuidancePlan::new(&guidance, &times, &[false, false, false]);
//! assert_eq!(plan.class_forward, [0]); // u(z,t,t|c) of the jump
//! assert_eq!(plan.class_reuse, [2]); //   that of a row with r = t is the main forward itself
//! assert_eq!(plan.null_forward, [0, 2]); // u(z,t,t|∅)
//!
//! // What the network said there; rows that were not asked weigh nothing.
//! let (v, class, null) = (array![4.0, 1.0, 2.0], array![3.0, 0.0, 2.0], array![1.0, 0.0, 2.0]);
//! let guided = guided_velocity(&v, Some(&class), Some(&null), &plan.coefficients);
//! assert_eq!(guided, array![5.0, 1.0, 2.0]);
//! let dudt = array![0.5, 0.5, 0.5];
//! let learned = target(&guided, &dudt, &times.lengths());
//! # assert!((learned[0] - 4.75f64).abs() < 1e-15);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod class_dropout;
mod error;
pub mod guidance;
pub mod interval;
pub mod plan;

pub use class_dropout::{ClassDropout, DropoutRows};
pub use error::GuidanceError;
pub use guidance::{Coefficients, Guidance, guided_velocity};
pub use interval::GuidanceInterval;
pub use plan::GuidancePlan;

/// The code in the README compiles and runs.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
