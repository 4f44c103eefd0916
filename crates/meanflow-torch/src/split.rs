//! A batch in parts, whose gradients add up to its own.

use meanflow_core::times::TimeDraw;
use tch::Tensor;

use crate::{Batch, host};

impl Batch {
    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.dropped.len()
    }

    /// The rows dealt out to `parts` batches like cards, each with its jump rows first and as many of them as the others,
    /// give or take one. Parts that would have no row are left out.
    ///
    /// No operation mixes rows, so the gradient of the loss of the whole is that of the parts' losses, each times its
    /// share of the rows. Units that are dropped are other ones in every part.
    pub fn split(&self, parts: usize) -> Vec<Self> {
        let rows = |part| (part..self.rows()).step_by(parts);
        (0..parts)
            .map(|part| (part as u64, rows(part).collect::<Vec<usize>>()))
            .filter(|(_, rows)| !rows.is_empty())
            .map(|(part, rows)| self.part(&rows, part))
            .collect()
    }

    /// The rows `rows`, ascending, with the drops of part number `part`.
    fn part(&self, rows: &[usize], part: u64) -> Self {
        let index: Vec<i64> = rows.iter().map(|row| *row as i64).collect();
        let index = host::upload(&index, self.data.device());
        let whole = rows.len() == self.rows();
        let select = |x: &Tensor| {
            if whole {
                x.shallow_clone()
            } else {
                x.index_select(0, &index)
            }
        };
        Self {
            data: select(&self.data),
            noise: select(&self.noise),
            labels: self
                .labels
                .as_ref()
                .map(|labels| rows.iter().map(|row| labels[*row]).collect()),
            times: TimeDraw {
                intervals: rows.iter().map(|row| self.times.intervals[*row]).collect(),
                jumps: rows.partition_point(|row| *row < self.times.jumps),
            },
            dropped: rows.iter().map(|row| self.dropped[*row]).collect(),
            augment: self.augment.as_ref().map(select),
            dropout: self.dropout.map(|seed| seed.wrapping_add(part)),
        }
    }
}
