//! Steps that are the same work on the same memory every time, for a device to record and to do again.

use meanflow_torch::engine::Direction;
use meanflow_torch::{Device, Inputs, Replay, TorchError};

use crate::learner::Learner;
use crate::pending::Numbers;

/// The memory of the steps, and what was recorded of them.
#[derive(Debug)]
pub(crate) struct Recorded {
    /// The inputs of the first step, which those of every other are put into.
    inputs: Option<Vec<Inputs>>,
    step: Replay<Numbers>,
    /// Apart from the step, since not every step moves the averages.
    averages: Replay<()>,
}

impl Recorded {
    /// Nothing done yet.
    pub(crate) fn new(device: Device) -> Self {
        Self {
            inputs: None,
            step: Replay::new(device),
            averages: Replay::new(device),
        }
    }

    /// Why the steps, or the averages, could not be recorded and are done as they are written.
    pub(crate) fn refused(&self) -> Option<&str> {
        self.step.refused().or(self.averages.refused())
    }

    /// A step of `learner` on these parts of a batch, after which the averages follow where they are due.
    ///
    /// # Errors
    /// Those of libtorch, and where the parts are not of the sizes of the first step's.
    pub(crate) fn advance(
        &mut self,
        learner: &mut Learner,
        parts: Vec<Inputs>,
        averages_are_due: bool,
    ) -> Result<Numbers, TorchError> {
        let parts = fill(&mut self.inputs, parts)?;
        let numbers = self.step.run(|| learner.advance(Direction::PATH, parts))?;
        if averages_are_due {
            self.averages.run(|| {
                learner.follow_if_finite(numbers);
                Ok::<_, TorchError>(())
            })?;
        }
        let numbers = numbers.copy();
        learner.model.parameters().changed();
        Ok(numbers)
    }
}

/// Puts the parts into the memory of the first that came.
fn fill(fixed: &mut Option<Vec<Inputs>>, parts: Vec<Inputs>) -> Result<&[Inputs], TorchError> {
    let Some(fixed) = fixed else {
        return Ok(fixed.insert(parts));
    };
    for (own, part) in fixed.iter_mut().zip(&parts) {
        own.fill(part)?;
    }
    Ok(fixed)
}
