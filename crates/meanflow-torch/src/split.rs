//! A batch in parts, whose gradients add up to its own.

use meanflow_core::times::TimeDraw;
use tch::Tensor;

use crate::Batch;

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
            .map(|part| (part, rows(part).collect::<Vec<usize>>()))
            .filter(|(_, rows)| !rows.is_empty())
            .map(|(part, rows)| self.part(&rows, part, parts))
            .collect()
    }

    /// Part number `part` of so many: its rows, ascending.
    fn part(&self, rows: &[usize], part: usize, parts: usize) -> Self {
        let select = |x: &Tensor| x.slice(0, part as i64, None, parts as i64).contiguous();
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
            dropout: self.dropout.map(|seed| seed.wrapping_add(part as u64)),
        }
    }
}
