//! Which samples of a training batch lose their label, so that the network learns the null class.

use meanflow_core::Stream;
use serde::{Deserialize, Serialize};

use crate::error::GuidanceError;

/// The share of samples trained without their label, and how they are chosen.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[serde(try_from = "RawLabelDrop")]
pub struct LabelDrop {
    probability: f64,
    rows: DropRows,
}

/// Which rows may lose their label.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum DropRows {
    /// Every row on its own, so that the null class is trained on jumps too and can be sampled in one step.
    Independent,
    /// As many rows as a draw over all rows hits, but only flow rows, `r = t`: what the official code does, whose null
    /// class never sees a jump.
    Flow,
}

impl LabelDrop {
    /// No label is dropped.
    pub const NONE: Self = Self {
        probability: 0.0,
        rows: DropRows::Independent,
    };

    /// # Errors
    /// Unless the probability is in [0, 1].
    pub fn new(probability: f64, rows: DropRows) -> Result<Self, GuidanceError> {
        if (0.0..=1.0).contains(&probability) {
            Ok(Self { probability, rows })
        } else {
            Err(GuidanceError::Probability { got: probability })
        }
    }

    /// The probability of a drop.
    pub fn probability(&self) -> f64 {
        self.probability
    }

    /// How rows are chosen.
    pub fn rows(&self) -> DropRows {
        self.rows
    }

    /// For every row of a batch, whose first `jumps` rows have `r < t`, whether its label is dropped.
    pub fn draw(&self, rows: usize, jumps: usize, stream: &mut Stream) -> Vec<bool> {
        let hits: Vec<bool> = (0..rows)
            .map(|_| stream.uniform() < self.probability)
            .collect();
        match self.rows {
            DropRows::Independent => hits,
            DropRows::Flow => {
                let count = hits.iter().filter(|hit| **hit).count();
                let first = jumps.max(rows - count);
                (0..rows).map(|row| row >= first).collect()
            }
        }
    }
}

/// The setting as written, before it is checked.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawLabelDrop {
    probability: f64,
    rows: DropRows,
}

impl TryFrom<RawLabelDrop> for LabelDrop {
    type Error = GuidanceError;

    fn try_from(raw: RawLabelDrop) -> Result<Self, GuidanceError> {
        Self::new(raw.probability, raw.rows)
    }
}
