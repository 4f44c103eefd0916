//! Which samples of a training batch lose their label, so that the network learns the null class.

use meanflow_core::RngStream;
use serde::{Deserialize, Serialize};

use crate::error::GuidanceError;

/// Class dropout: the probability with which samples are trained without their class, and how they are chosen.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[serde(try_from = "RawClassDropout")]
pub struct ClassDropout {
    /// The share of rows whose class is dropped, or the probability of each.
    prob: f64,
    /// Which rows.
    rows: DropoutRows,
}

/// Which rows may lose their label.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum DropoutRows {
    /// Every row on its own, so that the null class is trained on jumps too and can be sampled in one step.
    Independent,
    /// As many rows as a draw over all rows hits, but only flow-matching rows, `r = t`: what the official code does, whose null
    /// class never sees a jump.
    FlowMatching,
    /// In every batch of `B` rows the same number, `round(prob · B)`, of which `round(prob · jumps)` are jump
    /// rows: the last rows of either kind, which are as random as any, as samples and times are. Without an interval, guidance
    /// then needs as many forwards in every batch with so many MeanFlow rows.
    Count,
}

impl ClassDropout {
    /// No label is dropped.
    pub const NONE: Self = Self {
        prob: 0.0,
        rows: DropoutRows::Independent,
    };

    /// # Errors
    /// Unless the probability is in [0, 1].
    pub fn new(prob: f64, rows: DropoutRows) -> Result<Self, GuidanceError> {
        if (0.0..=1.0).contains(&prob) {
            Ok(Self { prob, rows })
        } else {
            Err(GuidanceError::Probability { got: prob })
        }
    }

    /// The probability of a drop.
    pub fn prob(&self) -> f64 {
        self.prob
    }

    /// How rows are chosen.
    pub fn rows(&self) -> DropoutRows {
        self.rows
    }

    /// Whether a batch of so many rows can lose a label.
    pub fn can_drop(&self, rows: usize) -> bool {
        match self.rows {
            DropoutRows::Count => self.count(rows) > 0,
            DropoutRows::Independent | DropoutRows::FlowMatching => self.prob > 0.0 && rows > 0,
        }
    }

    /// For every row of a batch, whose first `jumps` rows have `r < t`, whether its label is dropped.
    pub fn draw(&self, rows: usize, jumps: usize, stream: &mut RngStream) -> Vec<bool> {
        let hits = (0..rows).map(|_| stream.uniform() < self.prob);
        match self.rows {
            DropoutRows::Independent => hits.collect(),
            DropoutRows::FlowMatching => {
                let count = hits.filter(|hit| *hit).count();
                last(rows, jumps, 0, count.min(rows - jumps))
            }
            DropoutRows::Count => {
                let of_jumps = self.count(jumps);
                last(rows, jumps, of_jumps, self.count(rows) - of_jumps)
            }
        }
    }

    /// The number of rows, of so many, that is nearest to the probability.
    fn count(&self, rows: usize) -> usize {
        (self.prob * rows as f64).round() as usize
    }
}

/// Marks the last `of_jumps` of the MeanFlow rows and the last `of_flow` of the others.
fn last(rows: usize, jumps: usize, of_jumps: usize, of_flow: usize) -> Vec<bool> {
    let marked = |row| {
        if row < jumps {
            row + of_jumps >= jumps
        } else {
            row + of_flow >= rows
        }
    };
    (0..rows).map(marked).collect()
}

/// The setting as written, before it is checked.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawClassDropout {
    prob: f64,
    rows: DropoutRows,
}

impl TryFrom<RawClassDropout> for ClassDropout {
    type Error = GuidanceError;

    fn try_from(raw: RawClassDropout) -> Result<Self, GuidanceError> {
        Self::new(raw.prob, raw.rows)
    }
}
