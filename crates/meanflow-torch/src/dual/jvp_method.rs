//! Routes to `du/dt`, the derivative of the network along `(v, 0, 1)` (M12).
//!
//! The exact ones agree to rounding; having several is how a new layer is trusted.

use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor, no_grad, with_grad};

use crate::dual::kernels;
use crate::jvp;
use crate::model::condition::Conditioning;
use crate::{Dual, Model, TorchError};

/// How `du/dt` is computed.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum JvpMethod {
    /// [`Dual`]: beside the primal, in the one forward pass there is.
    #[default]
    Dual,
    /// [`jvp`]: libtorch's forward mode, in a pass of its own over the MeanFlow rows.
    ForwardAd,
    /// The derivative of a vector-Jacobian product: two backward passes.
    DoubleBackward,
    /// Central differences with this step in time: an approximation.
    FiniteDifference {
        /// The step; about 5e-3 in f32, 1e-4 in f64.
        step: f64,
    },
}

/// A point `(z, r, t)` of a batch with the condition of its rows, and the velocity along which the MeanFlow rows move.
#[derive(Debug)]
pub struct JvpInputs {
    /// `[B, …]`.
    pub z: Tensor,
    /// `[B]`.
    pub r: Tensor,
    /// `[B]`.
    pub t: Tensor,
    /// What the network is told besides.
    pub condition: Conditioning,
    /// `dz/dt` of the first `k` rows, `[k, …]`.
    pub velocity: Tensor,
}

/// How `(z, r, t)` moves in the MeanFlow rows when the network is differentiated: along `(v, dr, dt)`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tangent {
    dr: f64,
    dt: f64,
}

impl Tangent {
    /// `(v, 0, 1)` (M12): along the path, towards later `t`, from a fixed `r`.
    pub const TRAJECTORY: Self = Self { dr: 0.0, dt: 1.0 };

    /// A direction whose derivative is not `du/dt`. Only an ablation needs it, to see training fail (Geng et al. 2025,
    /// Table 1b).
    pub const fn wrong(dr: f64, dt: f64) -> Self {
        Self { dr, dt }
    }
}

impl JvpMethod {
    /// `u [B, …]` on the tape and `du/dt [k, …]` off it.
    ///
    /// # Errors
    /// If the velocity does not fit the state, or libtorch refuses.
    pub fn evaluate(
        self,
        model: &Model,
        point: &JvpInputs,
    ) -> Result<(Tensor, Tensor), TorchError> {
        self.evaluate_along(Tangent::TRAJECTORY, model, point)
    }

    /// As [`JvpMethod::evaluate`], with the derivative along any direction in the place of `du/dt`.
    ///
    /// # Errors
    /// As [`JvpMethod::evaluate`].
    pub fn evaluate_along(
        self,
        direction: Tangent,
        model: &Model,
        point: &JvpInputs,
    ) -> Result<(Tensor, Tensor), TorchError> {
        let k = point.velocity.size()[0];
        if self == Self::Dual || k == 0 {
            return evaluate_dual(direction, model, point);
        }
        let first = |x: &Tensor| x.detach().narrow(0, 0, k);
        let condition = point.condition.first(k);
        let function = |x: &[Tensor]| {
            let [z, r, t] = [&x[0], &x[1], &x[2]].map(|x| x.shallow_clone().into());
            model.forward(&z, &r, &t, &condition).into_parts().0
        };
        let primals = [&point.z, &point.r, &point.t].map(first);
        let tangents = [
            point.velocity.shallow_clone(),
            primals[1].full_like(direction.dr),
            primals[2].full_like(direction.dt),
        ];
        let dudt = match self {
            Self::ForwardAd => no_grad(|| {
                model.count_tangents(k);
                jvp(|x| vec![function(x)], &primals, &tangents).map(|(_, mut dy)| dy.remove(0))
            })?,
            Self::DoubleBackward => double_backward(function, &primals, &tangents),
            Self::FiniteDifference { step } => {
                central_difference(function, &primals, &tangents, step)
            }
            Self::Dual => unreachable!("handled above"),
        };
        let [z, r, t] = [&point.z, &point.r, &point.t].map(|x| x.shallow_clone().into());
        Ok((
            model.forward(&z, &r, &t, &point.condition).into_parts().0,
            dudt,
        ))
    }
}

fn evaluate_dual(
    direction: Tangent,
    model: &Model,
    point: &JvpInputs,
) -> Result<(Tensor, Tensor), TorchError> {
    let k = point.velocity.size()[0];
    if k == 0 {
        let [z, r, t] = [&point.z, &point.r, &point.t].map(|x| x.shallow_clone().into());
        let u = model.forward(&z, &r, &t, &point.condition).into_parts().0;
        return Ok((u, point.velocity.shallow_clone()));
    }
    let z = Dual::new(point.z.shallow_clone(), point.velocity.shallow_clone())?;
    let r = moving(&point.r, k, direction.dr)?;
    let t = moving(&point.t, k, direction.dt)?;
    let (u, dudt) = model.forward(&z, &r, &t, &point.condition).into_parts();
    let dudt = dudt.unwrap_or_else(|| u.detach().narrow(0, 0, k).zeros_like());
    Ok((u, dudt))
}

/// A time that moves at this speed in the first `k` rows; a still one has no tangent to compute with.
fn moving(time: &Tensor, k: i64, speed: f64) -> Result<Dual, TorchError> {
    if speed == 0.0 {
        return Ok(time.shallow_clone().into());
    }
    Dual::new(time.shallow_clone(), time.narrow(0, 0, k).full_like(speed))
}

/// `J·tangents` as the gradient with respect to `w` of `⟨Jᵀ w, tangents⟩`; the result has no tape.
fn double_backward(
    function: impl FnOnce(&[Tensor]) -> Tensor,
    primals: &[Tensor],
    tangents: &[Tensor],
) -> Tensor {
    with_grad(|| {
        let inputs: Vec<Tensor> = primals
            .iter()
            .map(|x| x.detach().copy().set_requires_grad(true))
            .collect();
        let output = kernels::with_primitives_only(|| function(&inputs));
        let w = output.detach().zeros_like().set_requires_grad(true);
        let pairing = (&output * &w).sum(None::<Kind>);
        let gradients = Tensor::run_backward(&[pairing], &inputs, true, true);
        let along = gradients
            .iter()
            .zip(tangents)
            .map(|(gradient, dx)| (gradient * dx).sum(None::<Kind>));
        let sum = along
            .reduce(|sum, term| sum + term)
            .expect("a function has an input");
        Tensor::run_backward(&[sum], &[w], false, false)
            .remove(0)
            .detach()
    })
}

/// `(f(x + h dx) − f(x − h dx)) / 2h`, in error by `O(h²)` and by rounding over `h`.
fn central_difference(
    function: impl Fn(&[Tensor]) -> Tensor,
    primals: &[Tensor],
    tangents: &[Tensor],
    step: f64,
) -> Tensor {
    let moved = |h: f64| -> Vec<Tensor> {
        primals
            .iter()
            .zip(tangents)
            .map(|(x, dx)| x + dx * h)
            .collect()
    };
    no_grad(|| (function(&moved(step)) - function(&moved(-step))) / (2.0 * step))
}
