//! The guided velocity of a batch, with no forward that is not needed.

use std::ops::Range;

use meanflow_cfg::{Coefficients, GuidancePlan, guided_velocity};
use tch::{Tensor, no_grad};

use crate::tensor::{Rows, per_row};
use crate::{Batch, Condition, Model, host};

/// `v_t` and the predictions `u(z,t,t|c)` and `u(z,t,t|∅)` in the rows that weigh them, `[B, …]`, off the tape.
pub(crate) struct Guided {
    plan: GuidancePlan,
    velocity: Rows,
    class: Option<Tensor>,
    null: Option<Tensor>,
}

impl Guided {
    /// Evaluates the network where the plan asks for a forward of its own, all in one batch.
    pub(crate) fn evaluate(
        model: &Model,
        plan: GuidancePlan,
        z: &Rows,
        v: &Rows,
        batch: &Batch,
        t: &[f64],
    ) -> Self {
        let needed = |rows: bool| rows.then(|| v.0.zeros_like());
        let class = needed(!plan.class_forward.is_empty() || !plan.class_reuse.is_empty());
        let null = needed(!plan.null_forward.is_empty());
        let mut guided = Self {
            plan,
            velocity: v.clone(),
            class,
            null,
        };
        if let Some(labels) = &batch.labels {
            no_grad(|| guided.forward(model, z, t, labels, batch.augment.as_ref()));
        }
        guided
    }

    fn forward(
        &mut self,
        model: &Model,
        z: &Rows,
        t: &[f64],
        labels: &[i64],
        augment: Option<&Tensor>,
    ) {
        let (class_rows, null_rows) = (&self.plan.class_forward, &self.plan.null_forward);
        let rows: Vec<usize> = class_rows.iter().chain(null_rows).copied().collect();
        if rows.is_empty() {
            return;
        }
        let times: Vec<f64> = rows.iter().map(|row| t[*row]).collect();
        let mut classes: Vec<i64> = class_rows.iter().map(|row| labels[*row]).collect();
        classes.resize(rows.len(), model.config().classes);
        let index = indices(&rows, &z.0);
        let times = per_row(&times, &z.0).into();
        let condition = Condition {
            labels: model.label_tensor(Some(&classes), rows.len()),
            augment: augment.map(|all| all.index_select(0, &index)),
            dropout: None,
        };
        let state = z.0.index_select(0, &index).into();
        let u = model.forward(&state, &times, &times, &condition);
        let u = u.into_parts().0;
        let split = class_rows.len() as i64;
        let rest = rows.len() as i64 - split;
        put(
            &mut self.class,
            &index.narrow(0, 0, split),
            &u.narrow(0, 0, split),
        );
        put(
            &mut self.null,
            &index.narrow(0, split, rest),
            &u.narrow(0, split, rest),
        );
    }

    /// Takes `u(z,t,t|c)` of the flow rows from the main forward, whose rows they are.
    pub(crate) fn reuse(&mut self, u: &Tensor) {
        let index = indices(&self.plan.class_reuse, u);
        put(&mut self.class, &index, &u.index_select(0, &index));
    }

    /// `ṽ` (M20) of these rows.
    pub(crate) fn velocity(&self, rows: Range<usize>) -> Rows {
        let coefficients: &[Coefficients] = &self.plan.coefficients[rows.clone()];
        let part = |x: &Tensor| Rows(x.narrow(0, rows.start as i64, rows.len() as i64));
        let (class, null) = (self.class.as_ref().map(part), self.null.as_ref().map(part));
        guided_velocity(
            &part(&self.velocity.0),
            class.as_ref(),
            null.as_ref(),
            coefficients,
        )
    }
}

fn indices(rows: &[usize], like: &Tensor) -> Tensor {
    let rows: Vec<i64> = rows.iter().map(|row| *row as i64).collect();
    host::upload(&rows, like.device())
}

/// Writes rows of `values` into `into`, where there are any.
fn put(into: &mut Option<Tensor>, index: &Tensor, values: &Tensor) {
    if let Some(into) = into {
        let _ = into.index_copy_(0, index, values);
    }
}
