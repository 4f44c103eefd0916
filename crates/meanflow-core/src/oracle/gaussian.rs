//! Gaussian data: velocity, flow and average velocity in closed form.

use super::curve::{Curve, DataShare, Variance};
use crate::error::{CoreError, finite, positive};
use crate::scalar::Scalar;
use crate::schedule::Schedule;

/// Data with the distribution N(mean, std²).
///
/// `z_t` is then Gaussian too, with mean `a m` and variance `S² = a² s² + b²`. Every function is defined for all
/// `0 ≤ r ≤ t ≤ 1`, both ends and `r = t` included.
///
/// ```
/// use meanflow_core::oracle::Gaussian;
/// use meanflow_core::{Schedule, jump};
///
/// let data = Gaussian::new(3.0, 0.5)?;
/// // One jump carries the quantiles of the noise onto those of the data.
/// let u = data.average_velocity(&Schedule::Linear, 2.0, 0.0, 1.0);
/// let x = jump(&2.0, &u, &[1.0]);
/// assert!((x - (3.0 + 2.0 * 0.5)).abs() < 1e-15);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gaussian {
    mean: f64,
    std: f64,
}

impl Gaussian {
    /// The distribution N(mean, std²).
    ///
    /// # Errors
    /// Unless the mean is finite and the standard deviation finite and positive.
    pub fn new(mean: f64, std: f64) -> Result<Self, CoreError> {
        finite("mean", mean)?;
        positive("std", std)?;
        Ok(Self { mean, std })
    }

    /// Mean of the data.
    pub fn mean(&self) -> f64 {
        self.mean
    }

    /// Standard deviation of the data.
    pub fn std(&self) -> f64 {
        self.std
    }

    /// `v(z, t) = a' m + (z − a m) ½(S²)'/S²` (M3).
    pub fn velocity<D: Scalar>(&self, schedule: &Schedule, z: D, t: D) -> D {
        let variance = self.variance(schedule);
        let growth = variance.slope(t) / variance.at(t) * 0.5;
        DataShare(schedule).slope(t) * self.mean + self.deviation(schedule, z, t) * growth
    }

    /// `z_r = a_r m + (S_r/S_t)(z_t − a_t m)`: where the trajectory through `z` at `t` is at time `r` (M6).
    pub fn flow<D: Scalar>(&self, schedule: &Schedule, z: D, r: D, t: D) -> D {
        let variance = self.variance(schedule);
        let scale = (variance.at(r) / variance.at(t)).sqrt();
        schedule.a(r) * self.mean + scale * self.deviation(schedule, z, t)
    }

    /// `u(z_t, r, t) = (z_t − z_r)/(t − r)` (M8); at `r = t` it is the velocity (M9).
    ///
    /// With `[f]` the chord of `f` from `r` to `t` it is `[a] m + (z − a_t m) [S²]/(S_t (S_t + S_r))`, where nothing
    /// cancels.
    pub fn average_velocity<D: Scalar>(&self, schedule: &Schedule, z: D, r: D, t: D) -> D {
        let variance = self.variance(schedule);
        let (upper, lower) = (variance.at(t).sqrt(), variance.at(r).sqrt());
        let growth = variance.chord(r, t) / (upper * (upper + lower));
        DataShare(schedule).chord(r, t) * self.mean + self.deviation(schedule, z, t) * growth
    }

    /// `ln p(z_t)` but for a constant.
    pub(super) fn log_density<D: Scalar>(&self, schedule: &Schedule, z: D, t: D) -> D {
        let variance = self.variance(schedule).at(t);
        let deviation = self.deviation(schedule, z, t);
        (deviation * deviation / variance + variance.ln()) * -0.5
    }

    fn variance<'a>(&self, schedule: &'a Schedule) -> Variance<'a> {
        Variance {
            schedule,
            std: self.std,
        }
    }

    /// `z − a_t m`.
    fn deviation<D: Scalar>(&self, schedule: &Schedule, z: D, t: D) -> D {
        z - schedule.a(t) * self.mean
    }
}
