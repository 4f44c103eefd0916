//! The training loss, on one screen: identity, guidance and weighting put together.
//!
//! Shapes: `B` rows of a batch, the `k` rows with `r < t` (the jump rows) first.

use meanflow_cfg::Guidance;
use meanflow_core::schedule::Schedule;
use meanflow_core::times::TimeDraw;
use meanflow_core::weighting::AdaptiveWeight;
use tch::{Kind, Tensor, no_grad};

use crate::engine::{Direction, Engine, Point};
use crate::guided::Guided;
use crate::inputs::Inputs;
use crate::tensor::{PerRow, combination, squared_norms};
use crate::{Dropout, Model, TorchError};

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
        self.loss_along(Direction::PATH, model, &Inputs::new(self, model, batch)?)
    }

    /// As [`Objective::loss`], of inputs that are on the device, and with the derivative along any direction in the place
    /// of `du/dt`: for ablations.
    ///
    /// # Errors
    /// If libtorch refuses.
    pub fn loss_along(
        &self,
        direction: Direction,
        model: &Model,
        inputs: &Inputs,
    ) -> Result<StepLoss, TorchError> {
        let (z, v) = path(inputs);
        let (jumps, rows) = (inputs.jumps(), inputs.rows());
        let mut guided = no_grad(|| Guided::evaluate(model, inputs, &z, &v));
        let velocity = no_grad(|| guided.velocity(0..jumps));
        let point = Point {
            r: inputs.r().shallow_clone(),
            t: inputs.t().shallow_clone(),
            condition: inputs.condition(),
            velocity: velocity.shallow_clone(),
            z,
        };
        let (u, dudt) = self.engine.evaluate_along(direction, model, &point)?;
        let target = no_grad(|| {
            guided.reuse(&u.detach());
            let [of_v, of_dudt] = inputs.target();
            let jump = combination(&[(of_v, &velocity), (of_dudt, &dudt)]);
            Tensor::cat(&[jump, guided.velocity(jumps..rows)], 0)
        });
        Ok(self.step_loss(&u, &target, &v))
    }

    /// The loss of plain flow matching (M5) on the same batch: every row at `r = t`, and no derivative.
    ///
    /// # Errors
    /// If the parts of the batch differ in their number of rows.
    pub fn flow_matching_loss(&self, model: &Model, batch: &Batch) -> Result<StepLoss, TorchError> {
        let inputs = Inputs::new(self, model, batch)?;
        let (z, v) = path(&inputs);
        let times = inputs.t().shallow_clone().into();
        let u = model.forward(&z.into(), &times, &times, &inputs.condition());
        let u = u.into_parts().0;
        Ok(self.step_loss(&u, &v, &v))
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

/// `z_t` and `v_t` (M1, M2).
fn path(inputs: &Inputs) -> (Tensor, Tensor) {
    let of = |[x, e]: [&Tensor; 2]| combination(&[(x, &inputs.data), (e, &inputs.noise)]);
    no_grad(|| (of(inputs.path()), of(inputs.velocity())))
}

impl Batch {
    /// The units that a network with dropout drops.
    pub(crate) fn dropout_of(&self, model: &Model) -> Option<Dropout> {
        let seed = self
            .dropout
            .filter(|_| model.config().network.has_dropout())?;
        let rows = self.data.size()[0];
        Some(Dropout { seed, rows })
    }

    /// Labels with "no class" in the dropped rows.
    pub(crate) fn training_labels(&self, classes: i64) -> Option<Vec<i64>> {
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
    pub(crate) fn without_class(&self) -> Vec<bool> {
        match self.labels {
            Some(_) => self.dropped.clone(),
            None => vec![true; self.dropped.len()],
        }
    }

    pub(crate) fn check(&self) -> Result<(), TorchError> {
        let rows = self.data.size()[0];
        let counts = [
            self.times.intervals.len() as i64,
            self.dropped.len() as i64,
            self.labels
                .as_ref()
                .map_or(rows, |labels| labels.len() as i64),
        ];
        if rows > 0 && self.noise.size() == self.data.size() && counts == [rows; 3] {
            return Ok(());
        }
        let expected = format!(
            "at least one row, noise {:?} and {rows} times, labels and drops",
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
