//! What a step changes: the model, its averages and the optimiser. Everything here happens on the device.

use meanflow_cfg::Guidance;
use meanflow_torch::engine::Direction;
use meanflow_torch::{Adam, Batch, Device, Inputs, Kind, Model, Objective, Tensor, TorchError};
use tch::no_grad;

use crate::TrainError;
use crate::average::{Average, DecayLaw};
use crate::config::{Positive, TrainConfig};
use crate::pending::Numbers;

/// A model in training.
#[derive(Debug)]
pub(crate) struct Learner {
    pub(crate) model: Model,
    pub(crate) averages: Vec<Average>,
    pub(crate) optimizer: Adam,
    objective: Objective,
    clip_norm: Option<Positive>,
    /// Steps from one update of the averages to the next.
    every: u64,
    /// Rows of a step's batch.
    rows: usize,
}

impl Learner {
    /// One that has learnt nothing yet.
    ///
    /// # Errors
    /// When the recipe describes no network for samples of this shape in so many classes.
    pub(crate) fn new(
        config: &TrainConfig,
        shape: &[usize],
        classes: usize,
        device: Device,
    ) -> Result<Self, TrainError> {
        let model = config.model(shape, classes)?;
        let model = Model::new(model, config.seed, device, Kind::Float)?;
        let model = model.computed(config.compute.network());
        Ok(Self {
            averages: DecayLaw::all(&config.ema)
                .map(|law| Average::new(law, &model))
                .collect(),
            optimizer: Adam::new(model.parameters(), config.optimizer.constants()),
            objective: Objective {
                schedule: config.path,
                weight: config.loss,
                guidance: config.guidance.unwrap_or(Guidance::NONE),
                engine: config.training.engine,
            },
            clip_norm: config.training.clip_norm,
            every: config.ema.every.get(),
            rows: config.training.batch.get(),
            model,
        })
    }

    /// What a step takes from each of these parts of a batch.
    pub(crate) fn inputs(&self, parts: &[Batch]) -> Result<Vec<Inputs>, TorchError> {
        let inputs = |part| Inputs::new(&self.objective, &self.model, part);
        parts.iter().map(inputs).collect()
    }

    /// Puts what differs from step to step on the device, before step number `step`.
    pub(crate) fn prepare(&mut self, step: u64, rate: f64) {
        self.optimizer.set_rate(rate);
        for average in &mut self.averages {
            average.keep(average.law.kept(step, self.every, self.rows));
        }
    }

    /// Whether the averages move after step number `step`.
    pub(crate) fn averages_are_due(&self, step: u64) -> bool {
        step.is_multiple_of(self.every)
    }

    /// A whole step but for its averages, which nobody waits for: it changes nothing where its numbers are not finite.
    pub(crate) fn advance(
        &mut self,
        direction: Direction,
        parts: &[Inputs],
    ) -> Result<Numbers, TorchError> {
        let numbers = self.differentiate(direction, parts)?;
        self.update_if_finite(&numbers)?;
        Ok(numbers)
    }

    /// Leaves the gradient of the batch's loss in the parameters, part after part.
    pub(crate) fn differentiate(
        &self,
        direction: Direction,
        parts: &[Inputs],
    ) -> Result<Numbers, TorchError> {
        self.model.parameters().zero_grad();
        let batch: i64 = parts.iter().map(Inputs::rows).sum();
        let mut numbers = Vec::with_capacity(parts.len());
        for part in parts {
            let loss = self.objective.loss_along(direction, &self.model, part)?;
            let scaled = loss.loss * (part.rows() as f64 / batch as f64);
            scaled.backward();
            numbers.push((scaled.detach(), loss.unweighted));
        }
        Ok(Numbers::new(numbers, self.gradient_norm()))
    }

    /// A step of the optimiser along a gradient of this norm.
    pub(crate) fn update(&mut self, norm: f64) -> Result<(), TorchError> {
        if let Some(limit) = self.clip_norm.map(Positive::get)
            && norm > limit
        {
            for mut gradient in self.gradients() {
                let _ = no_grad(|| gradient.g_mul_scalar_(limit / norm));
            }
        }
        self.optimizer.step()
    }

    /// As [`Learner::update`], where these numbers are finite, which only the device knows.
    fn update_if_finite(&mut self, numbers: &Numbers) -> Result<(), TorchError> {
        if let Some(limit) = self.clip_norm.map(Positive::get) {
            let norm = numbers.norm().to_kind(Kind::Double);
            // A gradient that is short enough is multiplied by one.
            let factor = (norm.full_like(limit) / norm).clamp_max(1.0);
            for mut gradient in self.gradients() {
                let _ = no_grad(|| gradient.g_mul_(&factor));
            }
        }
        self.optimizer.step_unless(&numbers.bad())
    }

    /// Moves every average towards the model, after step number `step`.
    pub(crate) fn follow(&self, step: u64) -> Result<(), TorchError> {
        self.averages
            .iter()
            .try_for_each(|one| one.follow(&self.model, one.law.kept(step, self.every, self.rows)))
    }

    /// As [`Learner::follow`], where the numbers of the step are finite.
    pub(crate) fn follow_if_finite(&self, numbers: &Numbers) {
        let bad = numbers.bad();
        for average in &self.averages {
            average.follow_unless(&bad, &self.model);
        }
    }

    fn gradients(&self) -> Vec<Tensor> {
        let parameters = self.model.parameters().tensors();
        let gradients = parameters.into_iter().map(Tensor::grad);
        gradients.filter(Tensor::defined).collect()
    }

    /// The Euclidean norm over all parameters, a scalar on the device.
    fn gradient_norm(&self) -> Tensor {
        let norms: Vec<Tensor> = self.gradients().iter().map(Tensor::norm).collect();
        Tensor::stack(&norms, 0).norm()
    }
}
