//! The training loss, on one screen: identity, guidance and weighting put together.
//!
//! Shapes: `B` rows of a batch, the `k` rows with `r < t` (the jump rows) first.

use meanflow_cfg::{Guidance, GuidancePlan};
use meanflow_core::identity;
use meanflow_core::schedule::Schedule;
use meanflow_core::times::TimeDraw;
use meanflow_core::weighting::AdaptiveWeight;
use tch::{Kind, Tensor, no_grad};

use crate::engine::{Direction, Engine, Point};
use crate::guided::Guided;
use crate::tensor::{PerRow, Rows, per_row, squared_norms};
use crate::{Condition, Dropout, Model, TorchError};

/// What is minimised.
#[derive(Clone, Debug, PartialEq)]
pub struct Objective {
    /// The path from data to noise.
    pub schedule: Schedule,
    /// The weight of a row in the loss.
    pub weight: AdaptiveWeight,
    /// The guidance that is baked into the target.
    pub guidance: Guidance,
    /// The route to `du/dt`.
    pub engine: Engine,
}

/// Everything random about a step, and its data.
#[derive(Debug)]
pub struct Batch {
    /// `x [B, …]`, on the model's device.
    pub data: Tensor,
    /// `e [B, …]`.
    pub noise: Tensor,
    /// The class of every row, for a conditional model.
    pub labels: Option<Vec<i64>>,
    /// `(r, t)` of every row, jump rows first.
    pub times: TimeDraw,
    /// Rows that are trained without their class.
    pub dropped: Vec<bool>,
    /// How every row was augmented, `[B, numbers]`, for a network that is told.
    pub augment: Option<Tensor>,
    /// Decides which units of a network with dropout are dropped; none: none.
    pub dropout: Option<u64>,
}

/// The loss of a step.
#[derive(Debug)]
pub struct StepLoss {
    /// The weighted loss, a scalar on the tape.
    pub loss: Tensor,
    /// `‖u − v_t‖²` summed over the dimensions of every row, `[B]`, off the tape: the curve to look at.
    pub unweighted: Tensor,
}

impl Objective {
    /// The loss of `model` on `batch`: (M14) on the target (M13), with the guided velocity (M20) for `v_t`.
    ///
    /// Guidance needs classes: without labels there is none.
    ///
    /// # Errors
    /// If the parts of the batch differ in their number of rows.
    pub fn loss(&self, model: &Model, batch: &Batch) -> Result<StepLoss, TorchError> {
        self.loss_along(Direction::PATH, model, batch)
    }

    /// As [`Objective::loss`], with the derivative along any direction in the place of `du/dt`: for ablations.
    ///
    /// # Errors
    /// As [`Objective::loss`].
    pub fn loss_along(
        &self,
        direction: Direction,
        model: &Model,
        batch: &Batch,
    ) -> Result<StepLoss, TorchError> {
        batch.check()?;
        let (t, r) = (batch.times.ts(), batch.times.rs());
        let (z, v) = self.path(batch, &t);
        let dropped = batch.without_class();
        let mut plan = GuidancePlan::new(&self.guidance, &batch.times, &dropped);
        if batch.drops_units(model) {
            // The main forward has dropped units, which the velocity of guidance has not: no row of it can be reused.
            plan.class_forward.append(&mut plan.class_reuse);
        }
        let mut guided = Guided::evaluate(model, plan, &z, &v, batch, &t);
        let jumps = batch.times.jumps;
        let velocity = no_grad(|| guided.velocity(0..jumps));
        let point = Point {
            r: per_row(&r, &z.0),
            t: per_row(&t, &z.0),
            condition: batch.condition(model),
            velocity: velocity.0.shallow_clone(),
            z: z.0,
        };
        let (u, dudt) = self.engine.evaluate_along(direction, model, &point)?;
        let target = no_grad(|| {
            guided.reuse(&u.detach());
            let jump = identity::target(&velocity, &Rows(dudt), &batch.times.lengths()[..jumps]);
            Tensor::cat(&[jump.0, guided.velocity(jumps..t.len()).0], 0)
        });
        Ok(self.step_loss(&u, &target, &v.0))
    }

    /// The loss of plain flow matching (M5) on the same batch: every row at `r = t`, and no derivative.
    ///
    /// # Errors
    /// If the parts of the batch differ in their number of rows.
    pub fn flow_matching_loss(&self, model: &Model, batch: &Batch) -> Result<StepLoss, TorchError> {
        batch.check()?;
        let t = batch.times.ts();
        let (z, v) = self.path(batch, &t);
        let times = per_row(&t, &z.0).into();
        let state = z.0.into();
        let u = model.forward(&state, &times, &times, &batch.condition(model));
        let u = u.into_parts().0;
        Ok(self.step_loss(&u, &v.0, &v.0))
    }

    /// `z_t` and `v_t` (M1, M2).
    fn path(&self, batch: &Batch, t: &[f64]) -> (Rows, Rows) {
        let (x, e) = (
            Rows(batch.data.shallow_clone()),
            Rows(batch.noise.shallow_clone()),
        );
        no_grad(|| {
            (
                self.schedule.interpolate(&x, &e, t),
                self.schedule.velocity(&x, &e, t),
            )
        })
    }

    /// `mean_i w_i L_i` with `w_i = sg(L_i + c)^−p`, and the monitor beside it.
    fn step_loss(&self, u: &Tensor, target: &Tensor, v: &Tensor) -> StepLoss {
        let dims = u.numel() / u.size()[0] as usize;
        let loss = squared_norms(&(u - target)) * self.weight.reduction.factor(dims);
        let weight = no_grad(|| self.weight.weight(&PerRow(loss.detach())).0);
        let unweighted = no_grad(|| squared_norms(&(u.detach() - v)));
        StepLoss {
            loss: (loss * weight).mean(None::<Kind>),
            unweighted,
        }
    }
}

impl Batch {
    /// What the network is told in training.
    fn condition(&self, model: &Model) -> Condition {
        let labels = self.training_labels(model.config().classes);
        let rows = self.data.size()[0];
        Condition {
            labels: model.label_tensor(labels.as_deref(), rows as usize),
            augment: self.augment.as_ref().map(Tensor::shallow_clone),
            dropout: self.dropout.map(|seed| Dropout { seed, rows }),
        }
    }

    fn drops_units(&self, model: &Model) -> bool {
        self.dropout.is_some() && model.config().network.has_dropout()
    }

    /// Labels with "no class" in the dropped rows.
    fn training_labels(&self, classes: i64) -> Option<Vec<i64>> {
        let labels = self.labels.as_ref()?;
        Some(
            labels
                .iter()
                .zip(&self.dropped)
                .map(|(label, dropped)| if *dropped { classes } else { *label })
                .collect(),
        )
    }

    /// The rows that have no class to be guided towards.
    fn without_class(&self) -> Vec<bool> {
        match self.labels {
            Some(_) => self.dropped.clone(),
            None => vec![true; self.dropped.len()],
        }
    }

    fn check(&self) -> Result<(), TorchError> {
        let rows = self.data.size()[0];
        let counts = [
            self.times.intervals.len() as i64,
            self.dropped.len() as i64,
            self.labels
                .as_ref()
                .map_or(rows, |labels| labels.len() as i64),
        ];
        if self.noise.size() == self.data.size() && counts == [rows; 3] {
            return Ok(());
        }
        let expected = format!(
            "noise {:?} and {rows} times, labels and drops",
            self.data.size()
        );
        let got = format!("noise {:?} and {counts:?}", self.noise.size());
        Err(TorchError::Argument {
            what: "batch",
            expected,
            got,
        })
    }
}
