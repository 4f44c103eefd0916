//! The training loss, on one screen.
//!
//! A row of a batch has data `x`, noise `e` and two times `r ≤ t`. On the path between data and noise it is at
//! `z = a(t) x + b(t) e` and moves with the velocity `v = a'(t) x + b'(t) e`. The network `u(z, r, t)` predicts the mean
//! velocity from `r` to `t`. It is trained on
//!
//! ```text
//! loss = mean over rows of w ‖u(z, r, t) − sg(ṽ − (t − r) du/dt)‖²      w = sg((‖·‖² + c)^−p)
//! ```
//!
//! where `du/dt` is the derivative of `u` along `(ṽ, 0, 1)`, `sg` takes no gradient, and `ṽ` is `v`, or with guidance a mixture of
//! it with the predictions `u(z, t, t)` with and without the class. Where `r = t` the target is `ṽ` itself, so that
//! only rows with `r < t` need the derivative. They come first in a batch.
//!
//! Shapes: `B` rows of a batch, the `k` rows with `r < t` (the MeanFlow rows) first.

use meanflow_cfg::Guidance;
use meanflow_core::schedule::Schedule;
use meanflow_core::weighting::AdaptiveWeight;
use tch::{Kind, Tensor, no_grad};

use crate::dual::jvp_method::{JvpInputs, JvpMethod, Tangent};
use crate::tensor::{PerRow, squared_norms};
use crate::training::guided::Guided;
use crate::training::inputs::StepInputs;
use crate::{Batch, Model, TorchError};

/// What is minimised.
///
/// ```
/// use meanflow_cfg::Guidance;
/// use meanflow_core::{AdaptiveWeight, Interval, Reduction, TimeDraw};
/// use meanflow_torch::{Batch, Device, JvpMethod, Kind, Model, Objective, Tensor};
/// # use meanflow_core::Schedule;
/// # use meanflow_torch::layers::TimeEmbedding;
/// # use meanflow_torch::networks::{MlpConfig, NetworkConfig};
/// # use meanflow_torch::{ModelConfig, Prediction};
/// # let network = NetworkConfig::Mlp(MlpConfig { width: 8, depth: 1, embedding: TimeEmbedding::TH });
/// # let config = ModelConfig { network, shape: vec![2], classes: 0, schedule: Schedule::Linear, prediction: Prediction::Velocity };
/// # let model = Model::new(config, 0, Device::Cpu, Kind::Float)?;
///
/// let objective = Objective {
///     schedule: Schedule::Linear,
///     weight: AdaptiveWeight::new(1.0, 0.01, Reduction::Sum)?,
///     guidance: Guidance::NONE,
///     jvp: JvpMethod::Dual,
/// };
/// // Two rows: one over an interval, one at a time.
/// let intervals = vec![Interval::new(0.2, 0.9)?, Interval::new(0.5, 0.5)?];
/// let batch = Batch {
///     data: Tensor::zeros([2, 2], (Kind::Float, Device::Cpu)),
///     noise: Tensor::ones([2, 2], (Kind::Float, Device::Cpu)),
///     labels: None,
///     times: TimeDraw { intervals, jumps: 1 },
///     dropped: vec![false; 2],
///     augment: None,
///     dropout: None,
/// };
/// let step = objective.loss(&model, &batch)?;
/// step.loss.backward();
/// assert_eq!(step.v_loss.size(), [2]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Objective {
    /// The path from data to noise.
    pub schedule: Schedule,
    /// The weight of a row in the loss.
    pub weight: AdaptiveWeight,
    /// The guidance that is baked into the target.
    pub guidance: Guidance,
    /// The route to `du/dt`.
    pub jvp: JvpMethod,
}

/// The loss of a step.
#[derive(Debug)]
pub struct StepLoss {
    /// The weighted loss, a scalar on the tape.
    pub loss: Tensor,
    /// `‖u − v_t‖²` summed over the dimensions of every row, `[B]`, off the tape: the curve to look at.
    pub v_loss: Tensor,
    /// `‖du/dt‖` of the rows with `r < t`, `[k]`, off the tape.
    pub dudt_norm: Tensor,
}

impl StepLoss {
    /// What is watched of every row, `[B, 2]`: `‖u − v_t‖²`, and `‖du/dt‖` or, where `r = t`, 0.
    pub(crate) fn monitors(&self) -> Tensor {
        let without = self.v_loss.size()[0] - self.dudt_norm.size()[0];
        let dudt_norm = self.dudt_norm.constant_pad_nd([0, without]);
        Tensor::stack(&[&self.v_loss, &dudt_norm], 1)
    }
}

impl Objective {
    /// The loss of `model` on `batch`: (M14) on the target (M13), with the guided velocity (M20) for `v_t`.
    ///
    /// Guidance needs classes: without labels there is none.
    ///
    /// # Errors
    /// If the parts of the batch differ in their number of rows.
    pub fn loss(&self, model: &Model, batch: &Batch) -> Result<StepLoss, TorchError> {
        self.loss_along(
            Tangent::TRAJECTORY,
            model,
            &StepInputs::new(self, model, batch)?,
        )
    }

    /// As [`Objective::loss`], of inputs that are on the device, and with the derivative along any direction in the place
    /// of `du/dt`: for ablations.
    ///
    /// # Errors
    /// If libtorch refuses.
    pub fn loss_along(
        &self,
        direction: Tangent,
        model: &Model,
        inputs: &StepInputs,
    ) -> Result<StepLoss, TorchError> {
        let (k, rows) = (inputs.jumps(), inputs.rows());
        let (z, v) = no_grad(|| (inputs.z(), inputs.v()));
        // ṽ of the rows with r < t; the other rows take their predictions with the class from u below.
        let mut guided = no_grad(|| Guided::evaluate(model, inputs, &z, &v));
        let velocity = no_grad(|| guided.velocity(0..k));
        let point = JvpInputs {
            z,
            r: inputs.r().shallow_clone(),
            t: inputs.t().shallow_clone(),
            condition: inputs.condition(),
            velocity: velocity.shallow_clone(),
        };
        let (u, dudt) = self.jvp.evaluate_along(direction, model, &point)?;
        let (target, dudt_norm) = no_grad(|| {
            guided.reuse(&u.detach());
            let jump = inputs.target(&velocity, &dudt);
            let target = Tensor::cat(&[jump, guided.velocity(k..rows)], 0);
            (target, squared_norms(&dudt).sqrt())
        });
        Ok(self.step_loss(&u, &target, &v, dudt_norm))
    }

    /// The loss of plain flow matching (M5) on the same batch: every row at `r = t`, and no derivative.
    ///
    /// # Errors
    /// If the parts of the batch differ in their number of rows.
    pub fn flow_matching_loss(&self, model: &Model, batch: &Batch) -> Result<StepLoss, TorchError> {
        let inputs = StepInputs::new(self, model, batch)?;
        Ok(self.flow_matching_loss_of(model, &inputs))
    }

    /// As [`Objective::flow_matching_loss`], of inputs that are on the device.
    pub fn flow_matching_loss_of(&self, model: &Model, inputs: &StepInputs) -> StepLoss {
        let (z, v) = no_grad(|| (inputs.z(), inputs.v()));
        let t = inputs.t().shallow_clone().into();
        let u = model.forward(&z.into(), &t, &t, &inputs.condition());
        let u = u.into_parts().0;
        self.step_loss(&u, &v, &v, v.new_zeros([0], (v.kind(), v.device())))
    }

    /// `mean_i w_i L_i` with `w_i = sg(L_i + c)^−p`, and the monitors beside it.
    fn step_loss(&self, u: &Tensor, target: &Tensor, v: &Tensor, dudt_norm: Tensor) -> StepLoss {
        let dims = u.numel() / u.size()[0] as usize;
        let loss = squared_norms(&(u - target)) * self.weight.reduction.factor(dims);
        let weight = no_grad(|| self.weight.weight(&PerRow(loss.detach())).0);
        let v_loss = no_grad(|| squared_norms(&(u.detach() - v)));
        StepLoss {
            loss: (loss * weight).mean(None::<Kind>),
            v_loss,
            dudt_norm,
        }
    }
}
