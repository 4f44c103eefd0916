//! The times at which guidance acts.

use serde::{Deserialize, Serialize};

use crate::error::GuidanceError;

/// `[start, end]`: guidance acts for `start ≤ t ≤ end`, both included.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[serde(try_from = "[f64; 2]", into = "[f64; 2]")]
pub struct GuidanceInterval {
    start: f64,
    end: f64,
}

impl GuidanceInterval {
    /// All times.
    pub const ALL: Self = Self {
        start: 0.0,
        end: 1.0,
    };

    /// The interval `[start, end]`.
    ///
    /// # Errors
    /// Unless `0 ≤ start ≤ end ≤ 1`.
    pub fn new(start: f64, end: f64) -> Result<Self, GuidanceError> {
        if 0.0 <= start && start <= end && end <= 1.0 {
            Ok(Self { start, end })
        } else {
            Err(GuidanceError::Interval { start, end })
        }
    }

    /// Its first time.
    pub fn start(&self) -> f64 {
        self.start
    }

    /// Its last time.
    pub fn end(&self) -> f64 {
        self.end
    }

    /// Whether guidance acts at `t`.
    pub fn contains(&self, t: f64) -> bool {
        (self.start..=self.end).contains(&t)
    }
}

impl TryFrom<[f64; 2]> for GuidanceInterval {
    type Error = GuidanceError;

    fn try_from([start, end]: [f64; 2]) -> Result<Self, GuidanceError> {
        Self::new(start, end)
    }
}

impl From<GuidanceInterval> for [f64; 2] {
    fn from(interval: GuidanceInterval) -> Self {
        [interval.start, interval.end]
    }
}
