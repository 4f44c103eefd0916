//! One training step on one batch, again and again: eagerly, or as a CUDA graph.

use meanflow_cfg::Guidance;
use meanflow_torch::{
    Adam, AdamConfig, Compute, CudaGraph, Device, ForwardCounts, Gradients, JvpMethod, Kind, Model,
    Objective, StepInputs, Tangent, Tensor, TorchError, ema,
};
use serde::Serialize;

use crate::{Guide, Size, setting};

/// What a step computes.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum StepKind {
    /// Flow matching: every row has r = t.
    Plain,
    /// MeanFlow with a quarter of the rows at r < t, without guidance.
    Meanflow,
    /// The same with guidance ω = 1, κ = ½.
    Guided,
}

impl StepKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Plain, Self::Meanflow, Self::Guided];

    fn jump_share(self) -> f64 {
        if self == Self::Plain { 0.0 } else { 0.25 }
    }

    fn guidance(self) -> Guidance {
        match self {
            Self::Guided => Guide::Kappa.scales(),
            Self::Plain | Self::Meanflow => Guidance::NONE,
        }
    }
}

/// A model with its optimiser and average, and the batch of every step. The batch stays on the device, so that a time is that
/// of loss, gradient, optimiser and average alone.
#[derive(Debug)]
pub struct RepeatedStep {
    model: Model,
    average: Model,
    optimizer: Adam,
    objective: Objective,
    inputs: StepInputs,
    /// `1 − decay` of the average.
    weight: Tensor,
    graph: Option<CudaGraph<()>>,
}

impl RepeatedStep {
    /// A fresh model of that size, which has done no step, with a batch for plain steps.
    ///
    /// # Errors
    /// If the device refuses.
    pub fn new(size: &Size, rows: usize, device: Device) -> Result<Self, TorchError> {
        let model = Model::new(size.model(), 0, device, Kind::Float)?;
        let mut optimizer = Adam::new(model.parameters(), AdamConfig::PUBLISHED);
        optimizer.set_lr(1e-4);
        let (objective, inputs) = work(&model, size, rows, StepKind::Plain)?;
        Ok(Self {
            average: model.twin(),
            optimizer,
            objective,
            inputs,
            weight: Tensor::full([], 1e-4, (Kind::Float, device)),
            graph: None,
            model,
        })
    }

    /// The same model for other steps: of another kind, in another way, on so many rows, as a graph or eagerly.
    ///
    /// # Errors
    /// If the device refuses.
    pub fn reconfigured(
        self,
        size: &Size,
        rows: usize,
        kind: StepKind,
        compute: Compute,
        graph: bool,
    ) -> Result<Self, TorchError> {
        let model = self.model.computed(compute);
        let (objective, inputs) = work(&model, size, rows, kind)?;
        Ok(Self {
            graph: graph.then(|| CudaGraph::new(model.device())),
            model,
            objective,
            inputs,
            ..self
        })
    }

    /// Does the step.
    ///
    /// # Errors
    /// If libtorch refuses.
    pub fn run(&mut self) -> Result<(), TorchError> {
        let (model, average, objective, inputs) =
            (&self.model, &self.average, &self.objective, &self.inputs);
        let optimizer = &mut self.optimizer;
        let weight = &self.weight;
        let mut step = || {
            let loss = objective.loss_along(Tangent::TRAJECTORY, model, inputs)?;
            loss.loss.backward();
            let gradients = Gradients::take(model.parameters())?;
            let is_finite = gradients.is_finite();
            optimizer.step(&gradients, &is_finite)?;
            ema::update(average.parameters(), model.parameters(), weight, &is_finite)
        };
        match &mut self.graph {
            Some(graph) => {
                graph.run(step)?;
            }
            None => step()?,
        }
        model.parameters().changed();
        Ok(())
    }

    /// Why the step could not be recorded as a graph and is done eagerly; none where nothing was in the way.
    pub fn refused(&self) -> Option<&str> {
        self.graph.as_ref().and_then(CudaGraph::refused)
    }

    /// The rows that have gone through the network until now, but for those of replays.
    pub fn passes(&self) -> ForwardCounts {
        self.model.passes()
    }
}

/// The objective of a kind of step, and a batch for it. A tenth of the rows has no class.
fn work(
    model: &Model,
    size: &Size,
    rows: usize,
    kind: StepKind,
) -> Result<(Objective, StepInputs), TorchError> {
    let objective = setting::objective(kind.guidance(), JvpMethod::Dual);
    let pictures = setting::pictures(size, rows, model.device());
    let dropped = (0..rows).map(|row| row % 10 == 9).collect();
    let batch = setting::batch(&pictures, kind.jump_share(), 0, dropped);
    let inputs = StepInputs::new(&objective, model, &batch)?;
    Ok((objective, inputs))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MatmulPrecision;

    #[test]
    fn a_step_counts_what_its_kind_costs() {
        tch::set_num_threads(1);
        let size = Size::named("digits").unwrap();
        let mut step = RepeatedStep::new(&size, 20, Device::Cpu).unwrap();
        // Forwards and gradients of all rows; tangents of 5; with κ = ½ the 18 rows with a class need one without it, and the 4
        // or 5 of them at r < t one with it at r = t.
        for (kind, least, most) in [
            (StepKind::Plain, 3.0, 3.0),
            (StepKind::Meanflow, 3.25, 3.25),
            (StepKind::Guided, 4.1, 4.5),
        ] {
            step = step
                .reconfigured(&size, 20, kind, MatmulPrecision::F32.apply(), false)
                .unwrap();
            let before = step.passes();
            step.run().unwrap();
            let units = step.passes().since(before).units(20);
            assert!((least..=most).contains(&units), "{kind:?}: {units}");
        }
    }
}
