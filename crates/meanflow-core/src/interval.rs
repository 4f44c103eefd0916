//! `Interval`: a pair `r ≤ t`, checked once.

/// The times `0 ≤ r ≤ t ≤ 1` of one average velocity `u(z_t, r, t)`.
///
/// `r = t` is allowed: there the average velocity is the instantaneous one (M9).
///
/// ```
/// use meanflow_core::Interval;
///
/// let whole = Interval::new(0.0, 1.0)?;
/// assert_eq!(whole.length(), 1.0);
/// assert!(whole.is_jump());
/// assert!(Interval::new(0.8, 0.3).is_err());
/// # Ok::<(), meanflow_core::IntervalError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    r: f64,
    t: f64,
}

/// Why a pair of times is not an interval.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum IntervalError {
    /// A time is NaN, infinite, or outside `[0, 1]`.
    #[error("time {name}: expected a number in [0, 1], got {got}")]
    OutsideUnit {
        /// Which of the two, `r` or `t`.
        name: &'static str,
        /// Its value.
        got: f64,
    },
    /// `r > t`: an average velocity looks from `t` back towards data.
    #[error("expected r ≤ t (time runs from data at 0 to noise at 1), got r = {r} and t = {t}")]
    Reversed {
        /// The end nearer to data.
        r: f64,
        /// The end nearer to noise.
        t: f64,
    },
}

impl Interval {
    /// The interval `[r, t]`.
    ///
    /// # Errors
    /// Unless `0 ≤ r ≤ t ≤ 1`.
    pub fn new(r: f64, t: f64) -> Result<Self, IntervalError> {
        for (name, got) in [("r", r), ("t", t)] {
            if !(0.0..=1.0).contains(&got) {
                return Err(IntervalError::OutsideUnit { name, got });
            }
        }
        if r > t {
            return Err(IntervalError::Reversed { r, t });
        }
        Ok(Self { r, t })
    }

    /// The end nearer to data.
    pub fn r(&self) -> f64 {
        self.r
    }

    /// The end nearer to noise.
    pub fn t(&self) -> f64 {
        self.t
    }

    /// `t − r`, exactly 0 when `r = t`.
    pub fn length(&self) -> f64 {
        self.t - self.r
    }

    /// Whether `r < t`: only then is the tangent of the network used.
    pub fn is_jump(&self) -> bool {
        self.r < self.t
    }
}
