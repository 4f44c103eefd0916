//! A training step whose rows several threads share.
//!
//! A thread takes one microbatch after the other through a replica of the model: forward, tangent and backward. Gradients are added
//! up in the tree of [`PairwiseSum`]. Then every thread moves its share of the parameters. So the threads meet three times
//! a step, and no digit depends on which of them did what.

use std::ops::Range;

use tch::Tensor;

use crate::training::ema;
use crate::training::gradients::total_norm;
use crate::training::layout::{self, Layout};
use crate::training::sharded::Sharded;
use crate::{
    Adam, Gradients, Model, PairwiseSum, Parameters, Ranks, Sharing, StepInputs, StepLoss,
    TorchError, Workers,
};

/// A moving average that follows a model: its parameters, and `1 − decay` as a scalar of their type on their device.
#[derive(Clone, Copy, Debug)]
pub struct Average<'a> {
    /// The parameters of the average.
    pub parameters: &'a Parameters,
    /// How far an update moves them towards the model's, read at every update.
    pub weight: &'a Tensor,
}

/// What a backward pass over a batch leaves: numbers on the device. The gradient stays inside.
#[derive(Debug)]
pub struct Differentiated {
    /// Of every microbatch its loss, times its share of the batch, and the [`monitors`](StepLoss::monitors) of its rows, `[B, 2]`.
    pub losses: Vec<(Tensor, Tensor)>,
    /// The Euclidean norm of the gradient over all parameters.
    pub grad_norm: Tensor,
}

/// The threads of a training with what each of them works on.
///
/// A replica has the parameters of the model and gradients of its own. So a worker beside the first costs the memory of a set of
/// gradients, that of a microbatch's activations and, in bfloat16, that of the rounded parameters.
#[derive(Debug)]
pub struct DataParallel {
    workers: Workers,
    ranks: Option<Ranks>,
    layout: Layout,
    parameters: Parameters,
    replicas: Vec<Model>,
    shards: Vec<Shard>,
}

/// The parameters that one worker moves.
#[derive(Debug)]
struct Shard {
    range: Range<usize>,
    adam: Adam,
    current: Parameters,
    averages: Vec<(Parameters, Tensor)>,
    /// The sums of the gradient that are still to be added up; afterwards the gradient.
    sums: Vec<Gradients>,
    /// The norms of the gradients of the parameters.
    norms: Vec<Tensor>,
    /// Scales the gradient, where there is a limit to its norm.
    clip: Option<Tensor>,
    is_finite: Tensor,
    /// The largest magnitude among the parameters after the last update.
    largest: Tensor,
}

impl DataParallel {
    /// Threads for a training of `model` by `adam`, which `averages` follow; with `ranks`, on one of several processes.
    ///
    /// # Errors
    /// If the system gives no threads.
    pub fn new(
        sharing: Sharing,
        model: &Model,
        adam: &Adam,
        averages: &[Average],
        ranks: Option<Ranks>,
    ) -> Result<Self, TorchError> {
        let parameters = model.parameters();
        let layout = Layout::new(parameters, ranks.as_ref().map_or(1, Ranks::size));
        let own = match &ranks {
            Some(ranks) if ranks.shards_optimizer() => layout.owned(ranks.rank()),
            _ => 0..layout.parameters(),
        };
        let sizes = layout::sizes(parameters);
        let shards = layout::ranges(&sizes[own.clone()], sharing.workers).into_iter();
        let shards = shards.map(|range| own.start + range.start..own.start + range.end);
        Ok(Self {
            workers: Workers::new(sharing)?,
            ranks,
            replicas: (0..sharing.workers).map(|_| model.replica()).collect(),
            shards: shards
                .map(|range| Shard::new(range, model, adam, averages))
                .collect(),
            parameters: parameters.part(&(0..layout.parameters())),
            layout,
        })
    }

    /// Where each of several processes has the moments and averages of its own parameters alone: which those are.
    pub fn sharded(&self) -> Option<Sharded<'_>> {
        let ranks = self.ranks.as_ref();
        let ranks = ranks.filter(|ranks| ranks.shards_optimizer())?;
        Some(Sharded::new(ranks, &self.layout))
    }

    /// How the threads share the work.
    pub fn sharing(&self) -> Sharing {
        self.workers.sharing()
    }

    /// The processes that share every batch; none where this one has all of it.
    pub fn ranks(&self) -> Option<&Ranks> {
        self.ranks.as_ref()
    }

    /// Computes the gradient of the loss of a batch from its microbatches; `loss` is that of one of them. With several processes
    /// each gives its own microbatches, and gets losses and gradient of the whole batch.
    ///
    /// # Errors
    /// Those of `loss` and of libtorch, and a panic of either; where another process was lost.
    pub fn differentiate(
        &mut self,
        microbatches: &mut [StepInputs],
        loss: impl Fn(&Model, &StepInputs) -> Result<StepLoss, TorchError> + Sync,
    ) -> Result<Differentiated, TorchError> {
        let own: i64 = microbatches.iter().map(StepInputs::rows).sum();
        let batch = self.ranks.as_ref().map_or(own, Ranks::rows);
        let open = match &self.ranks {
            Some(ranks) => ranks.leaves(microbatches.len()),
            None => self.replicas.len(),
        };
        let sum = PairwiseSum::new(microbatches.len(), open);
        let items = microbatches.iter_mut();
        let losses = self
            .workers
            .map(&mut self.replicas, items, |model, index, inputs| {
                let step = loss(model, inputs)?;
                let monitors = step.monitors();
                let share = step.loss * (inputs.rows() as f64 / batch as f64);
                share.backward();
                sum.add(index, Gradients::take(model.parameters())?);
                Ok((share.detach(), monitors))
            });
        if losses.is_err() {
            // What a pass that failed has left must not be added to the next.
            for replica in &self.replicas {
                Gradients::take(replica.parameters())?;
            }
        }
        let mut sums = sum.finish();
        let mut losses = losses?;
        let defined = sums.first().map_or_else(Vec::new, Gradients::defined_ones);
        if let Some(ranks) = &self.ranks {
            losses = ranks.gather(&losses)?;
            sums = vec![ranks.add_up(sums, &self.layout)?];
        }
        for shard in &mut self.shards {
            shard.sums = sums.iter().map(|sum| sum.part(&shard.range)).collect();
        }
        drop(sums);
        self.workers.run(&mut self.shards, Shard::add_up)?;
        let norms = self
            .shards
            .iter_mut()
            .flat_map(|shard| shard.norms.drain(..));
        let norms: Vec<Tensor> = norms.collect();
        let grad_norm = self.total_norm(&norms, &defined)?;
        Ok(Differentiated { losses, grad_norm })
    }

    /// The norm over all parameters from those of the ones that this process moves; `defined` says which parameters have a gradient.
    fn total_norm(&self, own: &[Tensor], defined: &[bool]) -> Result<Tensor, TorchError> {
        match self.sharded() {
            Some(sharded) => sharded.total_norm(own, defined),
            None => Ok(total_norm(own)),
        }
    }

    /// Moves the parameters along the gradient that was computed last, scaled by `clip`, and then, where `averages_are_due`, the
    /// averages. Nothing changes where `is_finite`, a boolean on the device, is false.
    ///
    /// Returns the largest magnitude among the parameters afterwards, a scalar on the device. It is not finite where the
    /// update has left the range of f32, which it can along a finite gradient; averages do not follow such parameters.
    ///
    /// `adam` is that of [`DataParallel::new`].
    ///
    /// # Errors
    /// Those of libtorch.
    pub fn update(
        &mut self,
        adam: &mut Adam,
        clip: Option<&Tensor>,
        is_finite: &Tensor,
        averages_are_due: bool,
    ) -> Result<Tensor, TorchError> {
        adam.count(is_finite);
        for shard in &mut self.shards {
            shard.clip = clip.map(Tensor::shallow_clone);
            shard.is_finite = is_finite.shallow_clone();
        }
        self.workers.run(&mut self.shards, |shard| {
            shard.update()?;
            if averages_are_due {
                shard.update_averages()?;
            }
            Ok(())
        })?;
        let largest = self.shards.iter().map(|shard| &shard.largest);
        let largest = Tensor::stack(&largest.collect::<Vec<_>>(), 0).amax([0], false);
        match self.sharded() {
            Some(sharded) => sharded.exchange(&self.parameters, &largest),
            None => Ok(largest),
        }
    }

    /// Moves the averages alone, where `is_finite` is true.
    ///
    /// # Errors
    /// Those of libtorch.
    pub fn update_averages(&mut self, is_finite: &Tensor) -> Result<(), TorchError> {
        for shard in &mut self.shards {
            shard.is_finite = is_finite.shallow_clone();
        }
        self.workers
            .run(&mut self.shards, |shard| shard.update_averages())
    }
}

impl Shard {
    fn new(range: Range<usize>, model: &Model, adam: &Adam, averages: &[Average]) -> Self {
        Self {
            adam: adam.part(&range),
            current: model.parameters().part(&range),
            averages: averages
                .iter()
                .map(|one| (one.parameters.part(&range), one.weight.shallow_clone()))
                .collect(),
            sums: Vec::new(),
            norms: Vec::new(),
            clip: None,
            is_finite: Tensor::from(true),
            largest: Tensor::from(0.0_f32),
            range,
        }
    }

    /// The rest of the tree, and the norms of its sum.
    fn add_up(&mut self) -> Result<(), TorchError> {
        let sum = PairwiseSum::new(self.sums.len(), 1);
        for (index, gradients) in self.sums.drain(..).enumerate() {
            sum.add(index, gradients);
        }
        self.sums = sum.finish();
        self.norms = self.sums.iter().flat_map(Gradients::norms).collect();
        Ok(())
    }

    fn update(&mut self) -> Result<(), TorchError> {
        let Some(mut gradients) = self.sums.pop() else {
            return Ok(());
        };
        if let Some(factor) = &self.clip {
            gradients.scale(factor);
        }
        self.adam.update(&gradients, &self.is_finite)?;
        self.largest = self.current.largest_magnitude();
        self.is_finite = self.is_finite.logical_and(&self.largest.isfinite());
        Ok(())
    }

    fn update_averages(&self) -> Result<(), TorchError> {
        for (average, weight) in &self.averages {
            ema::update(average, &self.current, weight, &self.is_finite)?;
        }
        Ok(())
    }
}
