//! Processes that share every batch of a training: which microbatches each computes, and how their results come together.

use meanflow_libtorch::ProcessGroup;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor, no_grad};

use crate::training::layout::Layout;
use crate::{Gradients, OwnMicrobatches, TorchError};

/// Monitors of a row.
const WATCHED: i64 = 2;

/// One of several processes that share every batch of a training.
///
/// Each computes as many microbatches, one after the other in their order. Gradients are added up in the tree of
/// [`PairwiseSum`](crate::PairwiseSum) over all microbatches, so that no digit depends on how many there are, unless another
/// [`GradientSum`] is asked for. Every process moves all parameters, or, with a sharded optimiser, its own ones.
#[derive(Debug)]
pub struct Ranks {
    group: ProcessGroup,
    microbatches: usize,
    rows: usize,
    sum: GradientSum,
    shards_optimizer: bool,
}

/// In which order several processes add up their gradients.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum GradientSum {
    /// That of a fixed tree over the microbatches: the same digits on any number of processes.
    #[default]
    FixedTree,
    /// That of the engine: other digits on another number of processes, and of another version of it.
    Fastest,
    /// As `Fastest`, of gradients that are rounded to bfloat16 on their way: half as much traffic.
    FastestBf16,
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
            sum: GradientSum::default(),
            shards_optimizer: false,
        })
    }

    /// Adds up gradients in this order.
    #[must_use]
    pub fn adding(self, sum: GradientSum) -> Self {
        Self { sum, ..self }
    }

    /// With `true`, each process has the moments and averages of its own parameters alone, moves them, and sends them to all (ZeRO-1;
    /// Rajbhandari et al. 2020). No digit depends on it.
    #[must_use]
    pub fn sharding_optimizer(self, shards_optimizer: bool) -> Self {
        Self {
            shards_optimizer,
            ..self
        }
    }

    /// Whether each process has the moments and averages of its own parameters alone.
    pub fn shards_optimizer(&self) -> bool {
        self.shards_optimizer
    }

    /// How many processes there are.
    pub fn size(&self) -> usize {
        self.group.size()
    }

    /// Their group.
    pub(crate) fn group(&self) -> &ProcessGroup {
        &self.group
    }

    /// Which of the processes this is, from 0.
    pub fn rank(&self) -> usize {
        self.group.rank()
    }

    /// The microbatches of this process.
    pub fn own(&self) -> OwnMicrobatches {
        let count = self.microbatches / self.group.size();
        let first = self.rank() * count;
        OwnMicrobatches {
            range: first..first + count,
            of: self.microbatches,
        }
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

    /// How many sums a process has to send: its microbatches are the leaves below as many nodes of the tree, and no fewer. The engine
    /// gets one.
    pub(crate) fn leaves(&self, microbatches: usize) -> usize {
        match self.sum {
            GradientSum::FixedTree => leaves(microbatches),
            GradientSum::Fastest | GradientSum::FastestBf16 => 1,
        }
    }

    /// The sum over all processes of what each has added up: of all parameters, or with a sharded optimiser of its own ones.
    pub(crate) fn add_up(
        &self,
        sums: Vec<Gradients>,
        layout: &Layout,
    ) -> Result<Gradients, TorchError> {
        let device = self.group.device();
        let defined = sums.first().map_or_else(Vec::new, Gradients::defined_ones);
        let (ranks, count) = (self.size(), sums.len());
        let packed = (0..ranks).flat_map(|rank| {
            let pack = move |sum: &Gradients| layout.pack(rank, sum.tensors(), device);
            sums.iter().map(pack)
        });
        let packed = Tensor::stack(&packed.collect::<Vec<_>>(), 0);
        drop(sums);
        let shape = [ranks as i64, count as i64, layout.part()];
        let all = self.sum(&packed.view(shape))?;
        let mut tensors: Vec<Tensor> = defined.iter().map(|_| Tensor::new()).collect();
        for (rank, vector) in all {
            for (index, place) in layout.places(rank, &vector) {
                if defined[index] {
                    tensors[index] = place;
                }
            }
        }
        Ok(Gradients::of(tensors))
    }

    /// The sums of these ranks' parts, `[part]`, of `[size, K, part]`: of all, or with a sharded optimiser of this one alone.
    fn sum(&self, parts: &Tensor) -> Result<Vec<(usize, Tensor)>, TorchError> {
        let whole = match (self.sum, self.shards_optimizer) {
            (GradientSum::FixedTree, is_sharded) => {
                let own = self.group.scatter_in_pairs(parts)?;
                if is_sharded {
                    return Ok(vec![(self.rank(), own)]);
                }
                self.group.all_gather(&own)?
            }
            (_, true) => {
                let own = self.group.reduce_scatter(&self.on_the_way(parts))?;
                return Ok(vec![(self.rank(), own.to_kind(Kind::Float).flatten(0, -1))]);
            }
            (_, false) => {
                let sum = self.on_the_way(parts);
                self.group.all_reduce(&sum)?;
                sum.to_kind(Kind::Float)
            }
        };
        let whole = whole.view([self.size() as i64, -1]);
        let part = |rank| (rank, whole.get(rank as i64));
        Ok((0..self.size()).map(part).collect())
    }

    /// What is sent to the engine.
    fn on_the_way(&self, parts: &Tensor) -> Tensor {
        match self.sum {
            GradientSum::FastestBf16 => parts.to_kind(Kind::BFloat16),
            GradientSum::FixedTree | GradientSum::Fastest => parts.shallow_clone(),
        }
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

/// The number of nodes of the tree below which this number of consecutive microbatches are all leaves.
fn leaves(microbatches: usize) -> usize {
    microbatches >> microbatches.trailing_zeros()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The nodes that a process leaves to the others are those of the tree over all microbatches.
    #[test]
    fn a_process_adds_up_as_much_as_the_tree_allows() {
        for (microbatches, nodes) in [(1, 1), (2, 1), (3, 3), (4, 1), (6, 3), (12, 3), (8, 1)] {
            assert_eq!(leaves(microbatches), nodes);
        }
    }
}
