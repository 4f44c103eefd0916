//! What a step changes: the model, its averages and the optimiser. Everything here happens on the device.

use std::ops::Range;

use meanflow_cfg::Guidance;
use meanflow_torch::{
    Adam, Average, Batch, DataParallel, Device, Kind, Model, Objective, Ranks, Sharing, StepInputs,
    Tangent, Tensor, TorchError,
};

use crate::TrainError;
use crate::config::{Positive, TrainConfig};
use crate::cost::refuse_too_large;
use crate::ema::{Ema, EmaSchedule};
use crate::step_metrics::DeviceMetrics;

/// A model in training.
#[derive(Debug)]
pub(crate) struct TrainState {
    pub(crate) model: Model,
    pub(crate) emas: Vec<Ema>,
    pub(crate) optimizer: Adam,
    threads: DataParallel,
    objective: Objective,
    max_grad_norm: Option<Positive>,
    /// Steps from one update of the averages to the next.
    ema_every: u64,
    /// Rows of a step's batch.
    batch: usize,
    /// Whether every step has to be the same work, as a graph of it is.
    is_fixed_work: bool,
}

impl TrainState {
    /// The state before the first step; with `ranks`, of one of several processes.
    ///
    /// # Errors
    /// When the recipe describes no network for samples of this shape in this number of classes.
    pub(crate) fn new(
        config: &TrainConfig,
        shape: &[usize],
        classes: usize,
        device: Device,
        ranks: Option<Ranks>,
    ) -> Result<Self, TrainError> {
        let model = config.model(shape, classes)?;
        if device == Device::Cpu {
            refuse_too_large(config, &model)?;
        }
        let model = Model::new(model, config.seed, device, Kind::Float)?;
        let model = model.computed(config.compute.network());
        let schedules = EmaSchedule::all(&config.ema);
        let emas: Vec<Ema> = schedules.map(|one| Ema::new(one, &model)).collect();
        let optimizer = Adam::new(model.parameters(), config.optimizer.constants());
        let averages: Vec<Average> = emas.iter().map(Ema::average).collect();
        let sharing = sharing(config, device, ranks.as_ref());
        let leads = ranks.as_ref().is_none_or(|ranks| ranks.rank() == 0);
        let threads = DataParallel::new(sharing, &model, &optimizer, &averages, ranks)?;
        let state = Self {
            threads,
            emas,
            optimizer,
            objective: Objective {
                schedule: config.path,
                weight: config.loss,
                guidance: config.guidance.unwrap_or(Guidance::NONE),
                jvp: config.training.jvp,
            },
            max_grad_norm: config.training.max_grad_norm,
            ema_every: config.ema.every.get(),
            batch: config.training.batch_size.get(),
            is_fixed_work: config.compute.cuda_graph,
            model,
        };
        // The others get theirs from the first.
        if let (Some(sharded), false) = (state.threads.sharded(), leads) {
            state.sets().iter().for_each(|set| sharded.release(set));
        }
        Ok(state)
    }

    /// What there is beside the parameters, a tensor for each: the averages, and the moments of the optimiser.
    fn sets(&self) -> Vec<Vec<&Tensor>> {
        let averages = self.emas.iter().map(|ema| ema.model.parameters().tensors());
        averages.chain(self.optimizer.moments()).collect()
    }

    /// The numbers of the sets of the optimiser, as [`TrainState::collect`] takes them.
    pub(crate) fn sets_of_optimizer(&self) -> Range<usize> {
        self.emas.len()..self.emas.len() + 2
    }

    /// Whether each of several processes has moments and averages of its own parameters alone.
    pub(crate) fn is_sharded(&self) -> bool {
        self.threads.sharded().is_some()
    }

    /// Gives the first of several processes, where each has its own part, all of one set: of the averages, in their order, and then the
    /// moments.
    ///
    /// # Errors
    /// If another process was lost.
    pub(crate) fn collect(&self, set: usize) -> Result<(), TorchError> {
        match (self.threads.sharded(), self.sets().get(set)) {
            (Some(sharded), Some(set)) => sharded.collect(set),
            _ => Ok(()),
        }
    }

    /// Frees what [`TrainState::collect`] has brought here.
    pub(crate) fn release(&self, set: usize) {
        if let (Some(sharded), Some(set)) = (self.threads.sharded(), self.sets().get(set)) {
            sharded.release(set);
        }
    }

    /// Makes room for all sets, which are about to be read.
    pub(crate) fn hold_all(&self) {
        if let Some(sharded) = self.threads.sharded() {
            self.sets().iter().for_each(|set| sharded.hold(set));
        }
    }

    /// Sets every average to the model.
    pub(crate) fn restart_emas(&self) {
        for ema in &self.emas {
            ema.restart(&self.model);
        }
    }

    /// The inputs of a step on these microbatches.
    ///
    /// # Errors
    /// Those of libtorch.
    pub(crate) fn inputs(&self, microbatches: &[Batch]) -> Result<Vec<StepInputs>, TorchError> {
        let inputs = |one| match self.is_fixed_work {
            true => StepInputs::padded(&self.objective, &self.model, one),
            false => StepInputs::new(&self.objective, &self.model, one),
        };
        microbatches.iter().map(inputs).collect()
    }

    /// Puts the learning rate and the decays of step number `step` on the device.
    pub(crate) fn prepare(&mut self, step: u64, lr: f64) {
        self.optimizer.set_lr(lr);
        for ema in &mut self.emas {
            ema.set_decay(ema.schedule.decay(step, self.ema_every, self.batch));
        }
    }

    /// Whether the averages are updated after step number `step`.
    pub(crate) fn emas_are_due(&self, step: u64) -> bool {
        step.is_multiple_of(self.ema_every)
    }

    /// One step of the optimiser along the gradient of the batch, which the averages follow where they are due. Where loss or
    /// gradient is not finite it changes nothing, which only the device knows: nothing here waits for it.
    ///
    /// # Errors
    /// Those of libtorch.
    pub(crate) fn step(
        &mut self,
        direction: Tangent,
        microbatches: &mut [StepInputs],
        emas_are_due: bool,
    ) -> Result<DeviceMetrics, TorchError> {
        let objective = &self.objective;
        let differentiated = self.threads.differentiate(microbatches, |model, inputs| {
            objective.loss_along(direction, model, inputs)
        })?;
        let mut metrics = DeviceMetrics::new(differentiated);
        let clip = self.max_grad_norm.map(Positive::get);
        let clip = clip.map(|limit| metrics.clip_factor(limit));
        let (adam, is_finite) = (&mut self.optimizer, &metrics.is_finite);
        let largest_weight = self
            .threads
            .update(adam, clip.as_ref(), is_finite, emas_are_due)?;
        metrics.moved(largest_weight);
        Ok(metrics)
    }

    /// Moves every average towards the model, after a step with these metrics and where they are finite.
    ///
    /// # Errors
    /// Those of libtorch.
    pub(crate) fn update_emas(&mut self, metrics: &DeviceMetrics) -> Result<(), TorchError> {
        self.threads.update_averages(&metrics.is_finite)
    }

    /// Takes all tensors from the first of several processes, or the parameters and its own part of all else.
    ///
    /// # Errors
    /// If another process was lost.
    pub(crate) fn take_from_first(&self) -> Result<(), TorchError> {
        let Some(ranks) = self.threads.ranks() else {
            return Ok(());
        };
        ranks.take_from_first(self.model.parameters().tensors())?;
        ranks.take_from_first([self.optimizer.steps()])?;
        for set in self.sets() {
            match self.threads.sharded() {
                Some(sharded) => sharded.spread(&set)?,
                None => ranks.take_from_first(set)?,
            }
        }
        Ok(())
    }

    /// How the threads of the CPU share a step.
    pub(crate) fn sharing(&self) -> Sharing {
        self.threads.sharing()
    }
}

/// On a CUDA device one thread gives it all work.
fn sharing(config: &TrainConfig, device: Device, ranks: Option<&Ranks>) -> Sharing {
    let all = config.training.microbatches();
    let microbatches = ranks.map_or(all, |ranks| ranks.own().range.len());
    match device {
        Device::Cpu => Sharing::of_this_thread(microbatches),
        _ => Sharing::new(1, microbatches),
    }
}
