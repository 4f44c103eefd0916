//! A batch: everything that a step is made of, its microbatches, and the way back from them.

use std::ops::Range;

use meanflow_core::times::TimeDraw;
use tch::Tensor;

use crate::{Dropout, Model, TorchError};

/// Everything random about a step, and its data.
#[derive(Debug)]
pub struct Batch {
    /// `x [B, …]`, on the model's device.
    pub data: Tensor,
    /// `e [B, …]`.
    pub noise: Tensor,
    /// The class of every row, for a conditional model.
    pub labels: Option<Vec<i64>>,
    /// `(r, t)` of every row, MeanFlow rows first.
    pub times: TimeDraw,
    /// Rows that are trained without their class.
    pub dropped: Vec<bool>,
    /// How every row was augmented, `[B, numbers]`, for a network that is conditioned on it.
    pub augment: Option<Tensor>,
    /// The seed of the units that a network with dropout drops; without it none is dropped.
    pub dropout: Option<u64>,
}

impl Batch {
    /// The number of rows.
    pub fn rows(&self) -> usize {
        self.dropped.len()
    }

    /// Cuts the batch into `count` microbatches: microbatch `m` has the rows `m`, `m + count`, `m + 2 count`, …. Each has its
    /// MeanFlow rows first and as many of them as the others, give or take one. Microbatches without a row are left out.
    ///
    /// No operation mixes rows, so the gradient of the loss of the batch is the sum of those of the microbatches' losses,
    /// each times its share of the rows. A network with dropout drops other units in every microbatch.
    /// [`in_batch_order`] puts numbers of their rows back into the order of the batch.
    pub fn microbatches(&self, count: usize) -> Vec<Self> {
        let filled = (0..count).filter(|microbatch| *microbatch < self.rows());
        filled
            .map(|microbatch| self.microbatch(microbatch, count))
            .collect()
    }

    fn microbatch(&self, microbatch: usize, count: usize) -> Self {
        let rows: Vec<usize> = rows_of(microbatch, count, self.rows()).collect();
        let select = |x: &Tensor| {
            let rows = x.slice(0, microbatch as i64, None, count as i64);
            rows.contiguous()
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
            dropout: self
                .dropout
                .map(|seed| seed.wrapping_add(microbatch as u64)),
        }
    }

    /// The units that a network with dropout drops.
    pub(crate) fn dropout_of(&self, model: &Model) -> Option<Dropout> {
        let seed = self
            .dropout
            .filter(|_| model.config().network.has_dropout())?;
        let rows = self.data.size()[0];
        Some(Dropout { seed, rows })
    }

    /// The labels, "no class" in the dropped rows.
    pub(crate) fn training_labels(&self, classes: i64) -> Option<Vec<i64>> {
        let labels = self.labels.as_ref()?;
        Some(
            labels
                .iter()
                .zip(&self.dropped)
                .map(|(label, dropped)| if *dropped { classes } else { *label })
                .collect(),
        )
    }

    /// The rows that have no class to be guided towards.
    pub(crate) fn without_class(&self) -> Vec<bool> {
        match self.labels {
            Some(_) => self.dropped.clone(),
            None => vec![true; self.dropped.len()],
        }
    }

    /// Checks that all parts of the batch have the same number of rows.
    pub(crate) fn check(&self) -> Result<(), TorchError> {
        let rows = self.data.size()[0];
        let counts = [
            self.times.intervals.len() as i64,
            self.dropped.len() as i64,
            self.labels
                .as_ref()
                .map_or(rows, |labels| labels.len() as i64),
        ];
        if rows > 0 && self.noise.size() == self.data.size() && counts == [rows; 3] {
            return Ok(());
        }
        let expected = format!(
            "at least one row, noise {:?} and {rows} times, labels and drops",
            self.data.size()
        );
        let got = format!("noise {:?} and {counts:?}", self.noise.size());
        Err(TorchError::Argument {
            what: "batch",
            expected,
            got,
        })
    }
}

/// The microbatches of a batch that one process computes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct OwnMicrobatches {
    /// Their numbers, counted from 0.
    pub range: Range<usize>,
    /// How many there are in the batch.
    pub of: usize,
}

impl OwnMicrobatches {
    /// All of them, as of the only process.
    pub fn all(count: usize) -> Self {
        Self {
            range: 0..count,
            of: count,
        }
    }

    /// Their rows of a batch of `rows` rows, in the order of the batch. A batch of these rows alone is cut into the same
    /// microbatches by [`Batch::microbatches`].
    pub fn rows(&self, rows: usize) -> Vec<usize> {
        let is_own = |row: &usize| self.range.contains(&(row % self.of));
        (0..rows).filter(is_own).collect()
    }
}

/// The rows of a batch of `rows` rows that are in one of `count` microbatches.
fn rows_of(microbatch: usize, count: usize, rows: usize) -> impl Iterator<Item = usize> {
    (microbatch..rows).step_by(count)
}

/// Numbers of the rows of a batch in its own order, from those of its [`Batch::microbatches`], one microbatch after the other.
pub fn in_batch_order(values: &[f64], microbatches: usize) -> Vec<f64> {
    let mut ordered = vec![0.0; values.len()];
    let places = (0..microbatches).flat_map(|one| rows_of(one, microbatches, values.len()));
    for (place, value) in places.zip(values) {
        ordered[place] = *value;
    }
    ordered
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So a process needs no row but those of its own microbatches.
    #[test]
    fn the_rows_of_a_process_alone_are_cut_into_its_microbatches() {
        for (rows, of) in [(12, 4), (13, 4), (32, 12), (7, 6), (5, 5)] {
            for size in (1..=of).filter(|size| of % size == 0) {
                let count = of / size;
                for first in (0..of).step_by(count) {
                    let range = first..first + count;
                    let own = OwnMicrobatches { range, of }.rows(rows);
                    for microbatch in 0..count {
                        let alone = rows_of(microbatch, count, own.len()).map(|place| own[place]);
                        assert!(alone.eq(rows_of(first + microbatch, of, rows)));
                    }
                }
            }
        }
    }

    #[test]
    fn numbers_of_rows_find_back_to_their_rows() {
        for rows in 1..12 {
            for microbatches in 1..=rows {
                let dealt: Vec<f64> = (0..microbatches)
                    .flat_map(|one| rows_of(one, microbatches, rows))
                    .map(|row| row as f64)
                    .collect();
                let ordered = in_batch_order(&dealt, microbatches);
                assert!(ordered.iter().enumerate().all(|(row, x)| *x == row as f64));
            }
        }
    }
}
