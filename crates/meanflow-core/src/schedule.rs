//! Paths from data to noise: `a(t)` and `b(t)` written once, their derivatives by forward mode.

use std::f64::consts::FRAC_PI_2;

use num_dual::Dual64;
use serde::{Deserialize, Serialize};

use crate::error::{CoreError, check, positive};
use crate::registry::RegistryError;
use crate::scalar::Scalar;
use crate::scheduler::{self, CustomSchedule, Scheduler};
use crate::state::State;

/// The path `z_t = a(t) x + b(t) e` (M1) from data `x` at `t = 0` to noise `e` at `t = 1`.
///
/// Always `a_0 = 1` and `b_0 = 0`. Sampling starts from `b_1 e`, see [`Schedule::prior_scale`].
///
/// ```
/// use meanflow_core::Schedule;
///
/// let point = Schedule::Linear.at(0.25);
/// assert_eq!((point.a, point.b, point.da, point.db), (0.75, 0.25, -1.0, 1.0));
/// ```
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case", try_from = "RawSchedule")]
pub enum Schedule {
    /// `a = 1 − t`, `b = t`: straight lines, `v = e − x`.
    Linear,
    /// `a = 1 − tⁿ`, `b = tⁿ`.
    Polynomial {
        /// The degree `n ≥ 1`.
        degree: f64,
    },
    /// `a = cos(πt/2)`, `b = sin(πt/2)`.
    Cosine,
    /// `a = exp(−½B)`, `b = √(1−a²)`, `B = ½t²(β_max−β_min) + tβ_min` (Song et al. 2021, appendix C).
    ///
    /// Some data is left at `t = 1` (`a_1 = 5·10⁻³` for β from 0.1 to 20), and `b'` is infinite at `t = 0`:
    /// see [`VP_CLAMP`].
    VariancePreserving {
        /// The rate at data, usually 0.1.
        beta_min: f64,
        /// The rate at noise, usually 20.
        beta_max: f64,
    },
    /// A [`Scheduler`](crate::scheduler::Scheduler) that this program has registered.
    Custom {
        /// Which one.
        name: CustomSchedule,
    },
}

/// The derivatives of [`Schedule::VariancePreserving`] are taken at this time for all earlier ones.
///
/// `b' ≈ ½√(β_min/t)` has no value at 0; here it is 50 (`β_min = 0.1`). The path itself is not clamped.
pub const VP_CLAMP: f64 = 1e-5;

/// A schedule at one time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PathPoint {
    /// Share of the data, `a(t)`.
    pub a: f64,
    /// Share of the noise, `b(t)`.
    pub b: f64,
    /// `a'(t)`.
    pub da: f64,
    /// `b'(t)`.
    pub db: f64,
}

impl Schedule {
    /// Makes a scheduler known under a name, which recipes and weights files may then say.
    ///
    /// # Errors
    /// [`RegistryError`] when the name is in use, or the path does not begin at the data or is not finite.
    pub fn register(
        name: &'static str,
        scheduler: &'static dyn Scheduler,
    ) -> Result<Self, RegistryError> {
        scheduler::register(name, scheduler).map(|name| Self::Custom { name })
    }

    /// `a(t)`.
    pub fn a<D: Scalar>(&self, t: D) -> D {
        match *self {
            Self::Linear => D::from(1.0) - t,
            Self::Polynomial { degree } => D::from(1.0) - power(t, degree),
            Self::Cosine => (t * FRAC_PI_2).cos(),
            Self::VariancePreserving { .. } => (self.decay(t) * -0.5).exp(),
            Self::Custom { name } => name.a(t),
        }
    }

    /// `b(t)`.
    pub fn b<D: Scalar>(&self, t: D) -> D {
        match *self {
            Self::Linear => t,
            Self::Polynomial { degree } => power(t, degree),
            Self::Cosine => (t * FRAC_PI_2).sin(),
            Self::VariancePreserving { .. } => self.noise_variance(t).sqrt(),
            Self::Custom { name } => name.b(t),
        }
    }

    /// `b(t)²`, which is smooth at `t = 0` where the `b` of a variance-preserving path is not.
    pub(crate) fn noise_variance<D: Scalar>(&self, t: D) -> D {
        match *self {
            // 1 − a² without its cancellation near t = 0.
            Self::VariancePreserving { .. } => -(-self.decay(t)).exp_m1(),
            _ => {
                let b = self.b(t);
                b * b
            }
        }
    }

    /// `B(t) = ∫_0^t β`, 0 for a path without β.
    fn decay<D: Scalar>(&self, t: D) -> D {
        match *self {
            Self::VariancePreserving { beta_min, beta_max } => {
                t * t * (0.5 * (beta_max - beta_min)) + t * beta_min
            }
            _ => D::from(0.0),
        }
    }

    /// Whether `a` and `b²` are known to have a Taylor series at every `t` of [0, 1].
    pub(crate) fn is_analytic(&self) -> bool {
        match self {
            Self::Polynomial { degree } => degree.fract() == 0.0,
            Self::Custom { .. } => false,
            Self::Linear | Self::Cosine | Self::VariancePreserving { .. } => true,
        }
    }

    /// `a`, `b` and their derivatives at `t`; see [`VP_CLAMP`] for the one derivative that is clamped.
    pub fn at(&self, t: f64) -> PathPoint {
        let early = matches!(self, Self::VariancePreserving { .. }) && t < VP_CLAMP;
        let moving = Dual64::new(if early { VP_CLAMP } else { t }, 1.0);
        PathPoint {
            a: self.a(t),
            b: self.b(t),
            da: self.a(moving).eps,
            db: self.b(moving).eps,
        }
    }

    /// `z_t = a_t x + b_t e` (M1), every sample at its own time.
    pub fn interpolate<S: State>(&self, x: &S, e: &S, times: &[f64]) -> S {
        let a: Vec<f64> = times.iter().map(|&t| self.a(t)).collect();
        let b: Vec<f64> = times.iter().map(|&t| self.b(t)).collect();
        S::combine(&[(&a, x), (&b, e)])
    }

    /// `v_t = a'_t x + b'_t e` (M2), the conditional velocity of every sample at its own time.
    pub fn velocity<S: State>(&self, x: &S, e: &S, times: &[f64]) -> S {
        let slopes = times.iter().map(|&t| self.at(t)).map(|p| (p.da, p.db));
        let (da, db): (Vec<f64>, Vec<f64>) = slopes.unzip();
        S::combine(&[(&da, x), (&db, e)])
    }

    /// `b_1`: sampling starts from `b_1 e`.
    pub fn prior_scale(&self) -> f64 {
        self.b(1.0)
    }

    /// # Errors
    /// Unless the degree is finite and at least 1 (below 1, `b'` is infinite at 0), and `0 < β_min ≤ β_max < ∞`.
    pub fn validate(&self) -> Result<(), CoreError> {
        match *self {
            // Of a registered scheduler this was checked.
            Self::Linear | Self::Cosine | Self::Custom { .. } => Ok(()),
            Self::Polynomial { degree } => {
                let valid = degree.is_finite() && degree >= 1.0;
                check("schedule.degree", "a finite number ≥ 1", degree, valid)
            }
            Self::VariancePreserving { beta_min, beta_max } => {
                positive("schedule.beta_min", beta_min)?;
                let valid = beta_max.is_finite() && beta_max >= beta_min;
                let expected = "a finite number ≥ beta_min";
                check("schedule.beta_max", expected, beta_max, valid)
            }
        }
    }
}

/// `tⁿ` for `n ≥ 1`; at 0, where the chain rule of a fractional power is 0 · ∞, by its limit.
fn power<D: Scalar>(t: D, n: f64) -> D {
    if t.re() == 0.0 && n > 1.0 && n != 2.0 {
        t * 0.0
    } else {
        t.powf(n)
    }
}

/// The schedule as written, before it is checked; braces make serde refuse unknown keys of every variant.
#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
enum RawSchedule {
    Linear {},
    Polynomial { degree: f64 },
    Cosine {},
    VariancePreserving { beta_min: f64, beta_max: f64 },
    Custom { name: CustomSchedule },
}

impl TryFrom<RawSchedule> for Schedule {
    type Error = CoreError;

    fn try_from(raw: RawSchedule) -> Result<Self, CoreError> {
        let schedule = match raw {
            RawSchedule::Linear {} => Self::Linear,
            RawSchedule::Polynomial { degree } => Self::Polynomial { degree },
            RawSchedule::Cosine {} => Self::Cosine,
            RawSchedule::VariancePreserving { beta_min, beta_max } => {
                Self::VariancePreserving { beta_min, beta_max }
            }
            RawSchedule::Custom { name } => Self::Custom { name },
        };
        schedule.validate().map(|()| schedule)
    }
}
