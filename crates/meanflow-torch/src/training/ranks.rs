//! Processes that share every batch of a training: which microbatches each computes, and how their results come together.

use std::ops::Range;

use meanflow_libtorch::ProcessGroup;
use tch::{Tensor, no_grad};

use crate::{Gradients, TorchError};

/// Monitors of a row.
const WATCHED: i64 = 2;

/// One of several processes that share every batch of a training.
///
/// Each computes as many microbatches, one after the other in their order. Gradients are added up in the tree of
/// [`PairwiseSum`](crate::PairwiseSum) over all microbatches, and every process moves all parameters. So no digit depends on how many there are.
#[derive(Debug)]
pub struct Ranks {
    group: ProcessGroup,
    microbatches: usize,
    rows: usize,
}

impl Ranks {
    /// The processes of `group`, on the device of the model, with this many microbatches and rows in a batch.
    ///
    /// # Errors
    /// If the processes cannot have as many microbatches each.
    pub fn new(group: ProcessGroup, microbatches: usize, rows: usize) -> Result<Self, TorchError> {
        let size = group.size();
        if !microbatches.is_multiple_of(size) || microbatches > rows {
            return Err(TorchError::Argument {
                what: "training.microbatches of several processes",
                expected: format!(
                    "a multiple of {size}, the number of processes, up to {rows}, the rows of a batch"
                ),
                got: microbatches.to_string(),
            });
        }
        Ok(Self {
            group,
            microbatches,
            rows,
        })
    }

    /// Which of the processes this is, from 0.
    pub fn rank(&self) -> usize {
        self.group.rank()
    }

    /// The microbatches of this process.
    pub fn own(&self) -> Range<usize> {
        let count = self.microbatches / self.group.size();
        let first = self.rank() * count;
        first..first + count
    }

    /// Replaces tensors by those of rank 0.
    ///
    /// # Errors
    /// If another process was lost.
    pub fn take_from_first<'a>(
        &self,
        tensors: impl IntoIterator<Item = &'a Tensor>,
    ) -> Result<(), TorchError> {
        for tensor in tensors {
            let whole = tensor.detach().contiguous();
            self.group.broadcast(&whole, 0)?;
            if self.rank() != 0 {
                no_grad(|| tensor.shallow_clone().copy_(&whole));
            }
        }
        Ok(())
    }

    /// Rows of a batch.
    pub(crate) fn rows(&self) -> i64 {
        self.rows as i64
    }

    /// How many sums a process has to send: its microbatches are the leaves below as many nodes of the tree, and no fewer.
    pub(crate) fn leaves(microbatches: usize) -> usize {
        microbatches >> microbatches.trailing_zeros()
    }

    /// The sum over all processes of what each has added up.
    pub(crate) fn add_up(&self, sums: &[Gradients]) -> Result<Gradients, TorchError> {
        let flat: Vec<Tensor> = sums.iter().map(Gradients::flat).collect();
        let sum = self.group.sum_in_pairs(&Tensor::stack(&flat, 0))?;
        let first = sums.first().ok_or_else(|| TorchError::Argument {
            what: "microbatches of a process",
            expected: "at least one".to_owned(),
            got: "none".to_owned(),
        })?;
        Ok(first.with_numbers(&sum))
    }

    /// Losses and monitors of the rows of all microbatches, from those of this process.
    pub(crate) fn gather(
        &self,
        own: &[(Tensor, Tensor)],
    ) -> Result<Vec<(Tensor, Tensor)>, TorchError> {
        let most = self.rows.div_ceil(self.microbatches) as i64;
        let padded = own.iter().map(|(loss, rows)| {
            let missing = most - rows.size()[0];
            let loss = loss.reshape([1]).to_kind(rows.kind());
            let rows = rows.constant_pad_nd([0, 0, 0, missing]);
            Tensor::cat(&[loss, rows.flatten(0, -1)], 0)
        });
        let padded = Tensor::stack(&padded.collect::<Vec<_>>(), 0);
        let all = self.group.all_gather(&padded)?;
        let of_microbatch = |index: usize| {
            let one = all.get(index as i64);
            let rows = (self.rows - index).div_ceil(self.microbatches) as i64;
            let numbers = one.narrow(0, 1, WATCHED * rows);
            (one.get(0), numbers.reshape([rows, WATCHED]))
        };
        Ok((0..self.microbatches).map(of_microbatch).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The nodes that a process leaves to the others are those of the tree over all microbatches.
    #[test]
    fn a_process_adds_up_as_much_as_the_tree_allows() {
        for (microbatches, leaves) in [(1, 1), (2, 1), (3, 3), (4, 1), (6, 3), (12, 3), (8, 1)] {
            assert_eq!(Ranks::leaves(microbatches), leaves);
        }
    }
}
