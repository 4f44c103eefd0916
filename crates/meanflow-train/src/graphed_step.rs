//! Steps that are the same work on the same memory every time, which a CUDA device captures and replays.

use meanflow_torch::{CudaGraph, Device, StepInputs, Tangent, TorchError};

use crate::step_metrics::DeviceMetrics;
use crate::train_state::TrainState;

/// The memory of the steps, and their graphs.
#[derive(Debug)]
pub(crate) struct GraphedStep {
    /// The inputs of the first step, which those of every other are put into.
    inputs: Option<Vec<StepInputs>>,
    step: CudaGraph<DeviceMetrics>,
    /// Apart from the step, since not every step updates the averages.
    emas: CudaGraph<()>,
}

impl GraphedStep {
    /// One of which no step has been done.
    pub(crate) fn new(device: Device) -> Self {
        Self {
            inputs: None,
            step: CudaGraph::new(device),
            emas: CudaGraph::new(device),
        }
    }

    /// Why the steps, or the averages, could not be captured and are done as they are written.
    pub(crate) fn refused(&self) -> Option<&str> {
        self.step.refused().or(self.emas.refused())
    }

    /// [`TrainState::step`] along the path on these microbatches, and [`TrainState::update_emas`] where it is due.
    ///
    /// # Errors
    /// Those of libtorch, and where the microbatches are not of the number and sizes of the first step's.
    pub(crate) fn step(
        &mut self,
        state: &mut TrainState,
        microbatches: Vec<StepInputs>,
        emas_are_due: bool,
    ) -> Result<DeviceMetrics, TorchError> {
        let microbatches = fill(&mut self.inputs, microbatches)?;
        let metrics = self
            .step
            .run(|| state.step(Tangent::TRAJECTORY, microbatches, false))?;
        if emas_are_due {
            self.emas.run(|| state.update_emas(metrics))?;
        }
        let metrics = metrics.copy();
        state.model.parameters().changed();
        Ok(metrics)
    }
}

/// Puts the microbatches into the memory of the first that came.
fn fill(
    fixed: &mut Option<Vec<StepInputs>>,
    microbatches: Vec<StepInputs>,
) -> Result<&mut [StepInputs], TorchError> {
    let Some(fixed) = fixed else {
        return Ok(fixed.insert(microbatches));
    };
    if fixed.len() != microbatches.len() {
        return Err(TorchError::Argument {
            what: "microbatches in the place of others",
            expected: fixed.len().to_string(),
            got: microbatches.len().to_string(),
        });
    }
    for (own, microbatch) in fixed.iter_mut().zip(&microbatches) {
        own.fill(microbatch)?;
    }
    Ok(fixed)
}
