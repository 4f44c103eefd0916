//! A path of one's own, beside those that are here.

use std::fmt::Debug;

use num_dual::Dual3_64;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::registry::{Registry, RegistryError};
use crate::scalar::Scalar;

/// A number with its first three derivatives, which go through arithmetic and elementary functions with it.
pub type Jet = Dual3_64;

/// A path `z_t = a(t) x + b(t) e` (M1) of one's own: two functions, from which everything else follows.
///
/// They are written over [`Jet`], so that their slopes come from the same lines. `a(0) = 1` and `b(0) = 0`; both must be
/// finite with a finite slope on [0, 1].
///
/// ```
/// use meanflow_core::Schedule;
/// use meanflow_core::scheduler::{Jet, Scheduler};
/// use num_dual::DualNum;
///
/// /// Noise comes as `t²`, data goes as `1 − t`.
/// #[derive(Debug)]
/// struct Late;
///
/// impl Scheduler for Late {
///     fn a(&self, t: Jet) -> Jet {
///         -t + 1.0
///     }
///     fn b(&self, t: Jet) -> Jet {
///         t.powi(2)
///     }
/// }
///
/// // From now on a recipe may say `path = { kind = "custom", name = "late" }`.
/// let schedule = Schedule::register("late", &Late)?;
/// assert_eq!(schedule.at(0.5).db, 1.0);
/// # Ok::<(), meanflow_core::RegistryError>(())
/// ```
pub trait Scheduler: Debug + Send + Sync {
    /// Share of the data, `a(t)`.
    fn a(&self, t: Jet) -> Jet;

    /// Share of the noise, `b(t)`.
    fn b(&self, t: Jet) -> Jet;
}

const WHAT: &str = "scheduler";

static SCHEDULERS: Registry<&'static dyn Scheduler> = Registry::new(WHAT);

/// Makes a scheduler known under a name, if it is a path and the name is free.
pub(crate) fn register(
    name: &'static str,
    scheduler: &'static dyn Scheduler,
) -> Result<CustomSchedule, RegistryError> {
    let schedule = CustomSchedule { name, scheduler };
    if let Some(reason) = schedule.fault() {
        let what = WHAT;
        return Err(RegistryError::Invalid { what, name, reason });
    }
    SCHEDULERS.register(name, scheduler)?;
    Ok(schedule)
}

/// A [`Scheduler`] that this program has registered; it is written as its name.
#[derive(Clone, Copy, Debug)]
pub struct CustomSchedule {
    name: &'static str,
    scheduler: &'static dyn Scheduler,
}

impl CustomSchedule {
    /// `a(t)`.
    pub(crate) fn a<D: Scalar>(self, t: D) -> D {
        extend(|t| self.scheduler.a(t), t)
    }

    /// `b(t)`.
    pub(crate) fn b<D: Scalar>(self, t: D) -> D {
        extend(|t| self.scheduler.b(t), t)
    }

    /// Why this is no path.
    fn fault(self) -> Option<String> {
        const TIMES: u32 = 64;
        let (a, b) = (self.a(0.0), self.b(0.0));
        if (a, b) != (1.0, 0.0) {
            return Some(format!("expected a(0) = 1 and b(0) = 0, got {a} and {b}"));
        }
        let times = (0..=TIMES).map(|i| f64::from(i) / f64::from(TIMES));
        times.into_iter().find_map(|t| {
            let (a, b) = (self.scheduler.a(moving(t)), self.scheduler.b(moving(t)));
            let [a, b, da, db] = [a.re, b.re, a.v1, b.v1];
            let is_finite = [a, b, da, db].iter().all(|number| number.is_finite());
            let expected = "expected finite a, b and slopes";
            (!is_finite).then(|| format!("{expected} at t = {t}, got {a}, {b}, {da}, {db}"))
        })
    }
}

/// Registered names are unique.
impl PartialEq for CustomSchedule {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl<'de> Deserialize<'de> for CustomSchedule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        let (name, scheduler) = SCHEDULERS.get(&name).map_err(D::Error::custom)?;
        Ok(Self { name, scheduler })
    }
}

impl Serialize for CustomSchedule {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name)
    }
}

fn moving(t: f64) -> Jet {
    Jet::from_re(t).derivative()
}

/// `f(t)` for a number that carries derivatives up to the third, by Taylor's series, which is exact for them: powers of
/// `t − re(t)` beyond their order are zero.
fn extend<D: Scalar>(f: impl Fn(Jet) -> Jet, t: D) -> D {
    let jet = f(moving(t.re()));
    let step = t - t.re();
    let coefficients = [jet.re, jet.v1, jet.v2 / 2.0, jet.v3 / 6.0];
    // A term that the number has no place for may be infinite, and zero times infinity is no number.
    let terms = coefficients.iter().take(D::NDERIV + 1).rev();
    terms.fold(D::from(0.0), |sum, &coefficient| sum * step + coefficient)
}
