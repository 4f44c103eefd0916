//! The mathematics of MeanFlow: paths, times, the identity, solvers and closed forms.
//!
//! Nothing here knows a tensor library, reads a file, prints, or owns a global random generator; what is global is the
//! list of schedulers that a program adds ([`Schedule::register`]). A formula is
//! written once, over [`State`], and holds for a number, an [`ndarray`] batch, or a tensor of another crate.
//! Equation numbers such as (M11) are those of the project's numbered derivation.
//!
//! Time runs from data, `t = 0`, to noise, `t = 1`, and `0 ≤ r ≤ t ≤ 1` everywhere.
//!
//! A flow matching model learns the velocity `v` of a sample on its way from noise to data, and sampling follows it in
//! many steps. MeanFlow learns the average velocity `u` over an interval, and one step is enough:
//!
//! ```
//! use meanflow_core::oracle::{Gaussian, along_trajectory};
//! use meanflow_core::solver::{EULER, integrate};
//! use meanflow_core::{Interval, Schedule, jump, target};
//!
//! let (data, path) = (Gaussian::new(3.0, 0.5)?, Schedule::Linear);
//! let whole = Interval::new(0.0, 1.0)?;
//! let noise = 1.0;
//!
//! // One jump (M15) with the average velocity lands on the data point of this noise, one deviation above the mean.
//! let u = data.average_velocity(&path, noise, whole.r(), whole.t());
//! let sample = jump(&noise, &u, &[whole.length()]);
//! assert!((sample - 3.5f64).abs() < 1e-12);
//!
//! // One Euler step (M7) with the instantaneous velocity lands on the mean of all data.
//! let euler = integrate(&EULER, |z: &f64, t| data.velocity(&path, *z, t), noise, &[1.0, 0.0]);
//! assert!((euler - 3.0).abs() < 1e-12);
//!
//! // What a network learns u from (M13): the velocity, and the derivative of u along the trajectory.
//! let v = data.velocity(&path, noise, whole.t());
//! let dudt = along_trajectory(|z, r, t| data.average_velocity(&path, z, r, t), noise, v, whole);
//! assert!((target(&v, &dudt, &[whole.length()]) - u).abs() < 1e-12);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod combination;
mod error;
pub mod identity;
pub mod interval;
pub mod inversion;
pub mod oracle;
pub mod random;
mod registry;
mod scalar;
pub mod schedule;
pub mod scheduler;
pub mod solver;
pub mod state;
pub mod times;
pub mod weighting;

pub use combination::Combination;
pub use error::CoreError;
pub use identity::{Leg, consistency_residual, displacement, identity_residual, jump, target};
pub use interval::{Interval, IntervalError};
pub use inversion::{FixedPoint, Inverse, invert_jump};
pub use random::{Purpose, RngStream};
pub use registry::{Registry, RegistryError};
pub use scalar::Scalar;
pub use schedule::{PathPoint, Schedule};
pub use scheduler::Scheduler;
pub use solver::{Solution, SolverError, Tableau, Tolerance, integrate, integrate_adaptive};
pub use state::{Norm, State};
pub use times::{MaskOrder, MeanFlowRatio, TimeDistribution, TimeDraw, TimeSampler};
pub use weighting::{AdaptiveWeight, Elementwise, Reduction};

/// The code in the README compiles and runs.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
