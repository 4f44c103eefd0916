//! The times at which guidance acts.

use serde::{Deserialize, Serialize};

use crate::error::GuidanceError;

/// Guidance acts for `start ≤ t ≤ end`, both included.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[serde(try_from = "RawWindow")]
pub struct Window {
    start: f64,
    end: f64,
}

impl Window {
    /// All times.
    pub const ALL: Self = Self {
        start: 0.0,
        end: 1.0,
    };

    /// The window `[start, end]`.
    ///
    /// # Errors
    /// Unless `0 ≤ start ≤ end ≤ 1`.
    pub fn new(start: f64, end: f64) -> Result<Self, GuidanceError> {
        if 0.0 <= start && start <= end && end <= 1.0 {
            Ok(Self { start, end })
        } else {
            Err(GuidanceError::Window { start, end })
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

/// The window as written, before it is checked.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawWindow {
    start: f64,
    end: f64,
}

impl TryFrom<RawWindow> for Window {
    type Error = GuidanceError;

    fn try_from(raw: RawWindow) -> Result<Self, GuidanceError> {
        Self::new(raw.start, raw.end)
    }
}
