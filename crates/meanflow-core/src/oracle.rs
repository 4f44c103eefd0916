//! Fields known in closed form, to test formulas and networks against.
//!
//! Data of one dimension whose distribution is a [`Gaussian`], a [`Mixture`] of them, or one Gaussian per class
//! ([`ClassConditional`]); coordinates of such data are independent, so a batch is a table of them. The functions take
//! any [`Scalar`]: a dual number goes through them, and `du/dt` needs no second formula ([`along_trajectory`]).

mod curve;
mod gaussian;
mod mixture;

pub use gaussian::Gaussian;
pub use mixture::{ClassConditional, Mixture};

use num_dual::Dual64;

use crate::interval::Interval;
use crate::scalar::Scalar;
use crate::solver::{SolverError, Tolerance, integrate_adaptive};
use crate::state::Norm;

/// `du/dt = v ∂_z u + ∂_t u` (M12): the derivative of `u(z, r, t)` in direction `(v, 0, 1)`.
///
/// ```
/// use meanflow_core::oracle::{Gaussian, along_trajectory};
/// use meanflow_core::{Interval, Schedule, identity_residual};
///
/// let (data, schedule, z) = (Gaussian::new(-1.0, 0.5)?, Schedule::Cosine, 0.3);
/// let interval = Interval::new(0.2, 0.9)?;
/// let v = data.velocity(&schedule, z, interval.t());
/// let u = data.average_velocity(&schedule, z, interval.r(), interval.t());
/// let dudt = along_trajectory(|z, r, t| data.average_velocity(&schedule, z, r, t), z, v, interval);
/// assert!(identity_residual(&u, &v, &dudt, &[interval.length()]).abs() < 1e-14);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn along_trajectory(
    u: impl Fn(Dual64, Dual64, Dual64) -> Dual64,
    z: f64,
    v: f64,
    interval: Interval,
) -> f64 {
    let (r, t) = (interval.r(), interval.t());
    u(Dual64::new(z, v), Dual64::from_re(r), Dual64::new(t, 1.0)).eps
}

/// `u(z_t, r, t)` (M8) of any velocity field by an ODE solve of relative and absolute error 10⁻¹² a step.
///
/// The unknown is the average velocity itself: over the share `θ` of the way from `t` to `r`, with `h = t − r`, the way
/// travelled is `h y` and `dy/dθ = v(z − h y, t − h θ)`, so `u = y(1)` loses nothing to cancellation when `h` is small,
/// and at `h = 0` it is `v`. With dual numbers the solve differentiates itself.
///
/// # Errors
/// Where the field is singular or not finite.
pub fn average_by_solver<D: Norm + Scalar>(
    field: impl Fn(D, D) -> D,
    z: D,
    r: D,
    t: D,
) -> Result<D, SolverError> {
    let tolerance = Tolerance {
        abs: 1e-12,
        rel: 1e-12,
        max_steps: 1_000_000,
    };
    let length = t - r;
    let slope = |y: &D, share: f64| field(z - length * *y, t - length * share);
    integrate_adaptive(slope, D::from(0.0), 0.0, 1.0, tolerance).map(|solution| solution.state)
}
