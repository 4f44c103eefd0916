//! Tensors beside the parameters, one for each, of which every process has its own alone: moments and averages of a sharded optimiser
//! (ZeRO-1). Rank 0 gets all of them for a while, to write or to draw.

use tch::{Tensor, no_grad};

use crate::training::gradients::total_norm;
use crate::training::layout::Layout;
use crate::{Parameters, Ranks, TorchError};

/// Which parameters each process moves.
#[derive(Debug)]
pub struct Sharded<'a> {
    ranks: &'a Ranks,
    layout: &'a Layout,
}

impl<'a> Sharded<'a> {
    pub(crate) fn new(ranks: &'a Ranks, layout: &'a Layout) -> Self {
        Self { ranks, layout }
    }

    /// Frees the tensors of parameters that other processes move.
    pub fn release(&self, tensors: &[&Tensor]) {
        let own = self.layout.owned(self.ranks.rank());
        for (index, tensor) in tensors.iter().enumerate() {
            if !own.contains(&index) {
                let none = Tensor::empty([0], (tensor.kind(), tensor.device()));
                no_grad(|| tensor.shallow_clone().set_data(&none));
            }
        }
    }

    /// Makes room for all of them.
    pub fn hold(&self, tensors: &[&Tensor]) {
        for (index, tensor) in tensors.iter().enumerate() {
            let shape = self.layout.shape(index);
            if tensor.size() != shape {
                let room = Tensor::zeros(shape, (tensor.kind(), tensor.device()));
                no_grad(|| tensor.shallow_clone().set_data(&room));
            }
        }
    }

    /// Gives rank 0 all of them, which holds them until it releases them.
    ///
    /// # Errors
    /// If another process was lost.
    pub fn collect(&self, tensors: &[&Tensor]) -> Result<(), TorchError> {
        let leads = self.ranks.rank() == 0;
        if leads {
            self.hold(tensors);
        }
        for (owner, range) in self.layout.ranks().skip(1) {
            for index in range {
                let takes = leads || owner == self.ranks.rank();
                self.send(tensors[index], index, owner, takes)?;
            }
        }
        Ok(())
    }

    /// Gives every process its own ones of those that rank 0 holds, which then releases the others'.
    ///
    /// # Errors
    /// If another process was lost.
    pub fn spread(&self, tensors: &[&Tensor]) -> Result<(), TorchError> {
        for (owner, range) in self.layout.ranks().skip(1) {
            for index in range {
                let takes = [0, owner].contains(&self.ranks.rank());
                self.send(tensors[index], index, 0, takes)?;
            }
        }
        self.release(tensors);
        Ok(())
    }

    /// Sends the tensor of a parameter from a rank to all, of which those that take it keep it.
    fn send(
        &self,
        tensor: &Tensor,
        parameter: usize,
        from: usize,
        takes: bool,
    ) -> Result<(), TorchError> {
        let whole = match takes {
            true => tensor.detach().contiguous(),
            false => {
                let shape = self.layout.shape(parameter);
                Tensor::empty(shape, (tensor.kind(), tensor.device()))
            }
        };
        self.ranks.group().broadcast(&whole, from)?;
        if takes && self.ranks.rank() != from {
            no_grad(|| tensor.shallow_clone().copy_(&whole));
        }
        Ok(())
    }

    /// Gives all processes the parameters that each has moved, and the largest magnitude among them.
    pub(crate) fn exchange(
        &self,
        parameters: &Parameters,
        largest: &Tensor,
    ) -> Result<Tensor, TorchError> {
        let (rank, size) = (self.ranks.rank(), self.ranks.size() as i64);
        let tensors: Vec<Tensor> = parameters.iter().map(|(_, one)| one.detach()).collect();
        let own = self.layout.pack(rank, &tensors, largest.device());
        let all = self.ranks.group().all_gather(&own)?.view([size, -1]);
        for (other, _) in self.layout.ranks().filter(|(other, _)| *other != rank) {
            let vector = all.get(other as i64);
            for (index, place) in self.layout.places(other, &vector) {
                no_grad(|| tensors[index].shallow_clone().copy_(&place));
            }
        }
        let all = self.ranks.group().all_gather(&largest.reshape([1]))?;
        Ok(all.amax([0], false))
    }

    /// The Euclidean norm over all parameters from those of each that this process moves: as if one had them all.
    pub(crate) fn total_norm(
        &self,
        own: &[Tensor],
        defined: &[bool],
    ) -> Result<Tensor, TorchError> {
        let count = |range: std::ops::Range<usize>| defined[range].iter().filter(|is| **is).count();
        let counts: Vec<usize> = self.layout.ranks().map(|(_, range)| count(range)).collect();
        let most = counts.iter().copied().max().unwrap_or(0);
        if most == 0 {
            return Ok(total_norm(&[]));
        }
        let device = self.ranks.group().device();
        let vector = Tensor::zeros([most as i64], (tch::Kind::Float, device));
        for (place, norm) in own.iter().enumerate() {
            no_grad(|| vector.get(place as i64).copy_(norm));
        }
        let all = self
            .ranks
            .group()
            .all_gather(&vector)?
            .view([-1, most as i64]);
        let norms = counts.iter().enumerate().flat_map(|(rank, count)| {
            let vector = all.get(rank as i64);
            (0..*count as i64).map(move |place| vector.get(place))
        });
        Ok(total_norm(&norms.collect::<Vec<_>>()))
    }
}
