//! The guided velocity `ṽ = ω v + κ u(z,t,t|c) + (1−ω−κ) u(z,t,t|∅)` and its settings (M16–M21).

use meanflow_core::State;
use serde::{Deserialize, Serialize};

use crate::error::GuidanceError;
use crate::interval::GuidanceInterval;

/// The strength of guidance, and when it acts.
///
/// It is learnt: a sampler of the trained network applies none.
///
/// ```
/// use meanflow_cfg::{Guidance, GuidanceInterval};
///
/// let guidance = Guidance::new(1.0, 0.5, GuidanceInterval::new(0.3, 0.8)?)?;
/// assert_eq!(guidance.effective_scale(), 2.0);
/// assert!(Guidance::new(1.0, 1.0, GuidanceInterval::ALL).is_err());
/// # Ok::<(), meanflow_cfg::GuidanceError>(())
/// ```
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[serde(try_from = "RawGuidance")]
pub struct Guidance {
    /// The weight ω of the velocity of the path in (M20).
    omega: f64,
    /// The weight κ of the network's own velocity with the class in (M20); below 1. The effective scale is `ω / (1 − κ)`.
    kappa: f64,
    /// When guidance acts.
    interval: GuidanceInterval,
}

/// The weights of the three velocities of (M20) for one sample; they sum to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Coefficients {
    /// Of the velocity `v_t` of the path: ω.
    pub velocity: f64,
    /// Of the network with the sample's class: κ.
    pub class: f64,
    /// Of the network without a class: `1 − ω − κ`.
    pub null: f64,
}

impl Coefficients {
    /// No guidance: `ṽ = v`.
    pub const PLAIN: Self = Self {
        velocity: 1.0,
        class: 0.0,
        null: 0.0,
    };
}

impl Guidance {
    /// No guidance, at no cost: ω = 1, κ = 0.
    pub const NONE: Self = Self {
        omega: 1.0,
        kappa: 0.0,
        interval: GuidanceInterval::ALL,
    };

    /// Guidance of strength `ω/(1−κ)` within the interval.
    ///
    /// # Errors
    /// Unless `0 < ω < ∞` and `0 ≤ κ < 1`.
    pub fn new(omega: f64, kappa: f64, interval: GuidanceInterval) -> Result<Self, GuidanceError> {
        for (name, got) in [("omega", omega), ("kappa", kappa)] {
            if !got.is_finite() {
                return Err(GuidanceError::NotFinite { name, got });
            }
        }
        if omega <= 0.0 {
            return Err(GuidanceError::OmegaNotPositive { got: omega });
        }
        if !(0.0..1.0).contains(&kappa) {
            return Err(GuidanceError::KappaOutOfRange { got: kappa });
        }
        Ok(Self {
            omega,
            kappa,
            interval,
        })
    }

    /// Weight ω of the velocity of the path.
    pub fn omega(&self) -> f64 {
        self.omega
    }

    /// Weight κ of the network with the sample's class.
    pub fn kappa(&self) -> f64 {
        self.kappa
    }

    /// When guidance acts.
    pub fn interval(&self) -> GuidanceInterval {
        self.interval
    }

    /// `ω' = ω/(1−κ)` (M21), the scale that a network at the fixed point of (M20) shows.
    pub fn effective_scale(&self) -> f64 {
        self.omega / (1.0 - self.kappa)
    }

    /// The weights at time `t`; none outside the interval, nor for a sample whose label was dropped.
    pub fn coefficients(&self, t: f64, dropped: bool) -> Coefficients {
        if dropped || !self.interval.contains(t) {
            return Coefficients::PLAIN;
        }
        self.acting()
    }

    /// The weights where guidance acts.
    pub(crate) fn acting(&self) -> Coefficients {
        Coefficients {
            velocity: self.omega,
            class: self.kappa,
            null: 1.0 - self.omega - self.kappa,
        }
    }
}

/// `ṽ = ω v + κ u(z,t,t|c) + (1−ω−κ) u(z,t,t|∅)` (M20); with κ = 0 it is (M19).
///
/// With the marginal velocities `v(z,t|c)` and `v(z,t)` for `v` and `null`, and κ = 0, it is the guided field (M16).
/// A state that no sample weighs may be left out.
///
/// # Shapes
/// States `[B, …]`, coefficients `[B]`.
///
/// # Panics
/// If a state is left out that a sample weighs.
pub fn guided_velocity<S: State>(
    v: &S,
    class: Option<&S>,
    null: Option<&S>,
    coefficients: &[Coefficients],
) -> S {
    let column = |weight: fn(&Coefficients) -> f64| coefficients.iter().map(weight).collect();
    let columns: [Vec<f64>; 3] = [
        column(|c| c.velocity),
        column(|c| c.class),
        column(|c| c.null),
    ];
    let mut terms = Vec::with_capacity(3);
    for (weights, state) in columns.iter().zip([Some(v), class, null]) {
        match state {
            Some(state) => terms.push((weights.as_slice(), state)),
            None => assert!(
                weights.iter().all(|w| *w == 0.0),
                "a velocity of weight other than 0 was left out"
            ),
        }
    }
    S::combine(&terms)
}

/// The setting as written, before it is checked.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawGuidance {
    omega: f64,
    kappa: f64,
    interval: GuidanceInterval,
}

impl TryFrom<RawGuidance> for Guidance {
    type Error = GuidanceError;

    fn try_from(raw: RawGuidance) -> Result<Self, GuidanceError> {
        Self::new(raw.omega, raw.kappa, raw.interval)
    }
}
