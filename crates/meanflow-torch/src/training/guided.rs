//! The guided velocity of a batch, with no forward that is not needed.

use std::ops::Range;

use tch::Tensor;

use crate::Model;
use crate::tensor::combination;
use crate::training::inputs::{GuidanceInputs, StepInputs};

/// `v_t` and the predictions `u(z,t,t|c)` and `u(z,t,t|∅)` in the rows that weigh them, `[B, …]`, off the tape.
pub(crate) struct Guided<'a> {
    inputs: &'a GuidanceInputs,
    velocity: Tensor,
    class: Option<Tensor>,
    null: Option<Tensor>,
}

impl<'a> Guided<'a> {
    /// Evaluates the network where a row needs a forward of its own, all in one batch.
    pub(crate) fn evaluate(model: &Model, inputs: &'a StepInputs, z: &Tensor, v: &Tensor) -> Self {
        let guidance = &inputs.guidance;
        let needed = |rows: i64| (rows > 0).then(|| v.zeros_like());
        let (with, without) = guidance.forwards();
        let mut guided = Self {
            inputs: guidance,
            velocity: v.shallow_clone(),
            class: needed(with + guidance.reused().size()[0]),
            null: needed(without),
        };
        if with + without > 0 {
            guided.forward(model, inputs, z);
        }
        guided
    }

    fn forward(&mut self, model: &Model, inputs: &StepInputs, z: &Tensor) {
        let (index, times) = (self.inputs.rows(), self.inputs.times());
        let times = times.shallow_clone().into();
        let state = z.index_select(0, index).into();
        let u = model.forward(&state, &times, &times, &inputs.guidance_condition());
        let u = u.into_parts().0;
        let (with, without) = self.inputs.forwards();
        let part = |x: &Tensor, start, length| x.narrow(0, start, length);
        put(&mut self.class, &part(index, 0, with), &part(&u, 0, with));
        put(
            &mut self.null,
            &part(index, with, without),
            &part(&u, with, without),
        );
    }

    /// Takes `u(z,t,t|c)` of the flow-matching rows from the main forward, whose rows they are.
    pub(crate) fn reuse(&mut self, u: &Tensor) {
        let index = self.inputs.reused();
        put(&mut self.class, index, &u.index_select(0, index));
    }

    /// `ṽ` (M20) of these rows; `v` itself where no row of the batch weighs a prediction.
    pub(crate) fn velocity(&self, rows: Range<i64>) -> Tensor {
        let part = |x: &Tensor| x.narrow(0, rows.start, rows.end - rows.start);
        let [of_v, of_class, of_null] = self.inputs.weights().map(part);
        let velocity = part(&self.velocity);
        let (class, null) = (self.class.as_ref().map(part), self.null.as_ref().map(part));
        if class.is_none() && null.is_none() {
            return velocity;
        }
        let mut terms = vec![(&of_v, &velocity)];
        terms.extend(class.iter().map(|u| (&of_class, u)));
        terms.extend(null.iter().map(|u| (&of_null, u)));
        combination(&terms)
    }
}

/// Writes rows of `values` into `into`, where there are any.
fn put(into: &mut Option<Tensor>, index: &Tensor, values: &Tensor) {
    if let Some(into) = into {
        let _ = into.index_copy_(0, index, values);
    }
}
