//! What a network's output stands for.

use meanflow_core::Schedule;
use serde::{Deserialize, Serialize};

use crate::{Dual, TorchError};

/// Times below it divide as it does, so that the velocity of a state without noise stays finite (Lu et al. 2026).
const LEAST_TIME: f64 = 0.05;

/// What a network's output stands for; the loss, the derivative and the sampler see the average velocity either way.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub enum Prediction {
    /// The average velocity `u` itself (Geng et al. 2025).
    #[default]
    #[serde(rename = "u")]
    Velocity,
    /// A sample `x`, of which `u = (z − x) / max(t, 0.05)` is made: pixel MeanFlow (Lu et al. 2026, arXiv 2601.22158). It takes
    /// the linear path.
    #[serde(rename = "x")]
    Data,
}

impl Prediction {
    /// Whether the network predicts the velocity, as it does where nothing is said.
    pub fn is_velocity(&self) -> bool {
        *self == Self::Velocity
    }

    /// Checks that velocities on this path can be made of what is predicted.
    ///
    /// # Errors
    /// [`TorchError::Config`] for samples on another path than the linear one.
    pub fn validate(self, schedule: &Schedule) -> Result<(), TorchError> {
        if self.is_velocity() || *schedule == Schedule::Linear {
            return Ok(());
        }
        Err(TorchError::Config {
            key: "prediction",
            expected: "\"u\" on any path but the linear one".into(),
            got: "\"x\"".into(),
        })
    }

    /// The average velocity `[B, …]` of an output `[B, …]` at the state `z [B, …]` and the time `t [B]`.
    pub(crate) fn average_velocity(self, output: Dual, z: &Dual, t: &Dual) -> Dual {
        match self {
            Self::Velocity => output,
            Self::Data => z.sub(&output).div_rows(&t.clamp_min(LEAST_TIME)),
        }
    }
}
