//! Adam and AdamW with a state that can be saved and read back.

use std::ops::Range;

use meanflow_libtorch::operations::{self, AdamNumbers, AdamTensors};
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor, no_grad};

use crate::{Gradients, Parameters, TorchError};

/// The constants of Adam (Kingma and Ba 2015) and AdamW (Loshchilov and Hutter 2019).
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct AdamConfig {
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub epsilon: f64,
    /// Decay of the weights a step, times the rate.
    pub weight_decay: f64,
    /// Whether the decay is apart from the gradient: AdamW if so, Adam otherwise.
    pub decoupled: bool,
}

impl AdamConfig {
    /// Those of the published models of ImageNet (Geng et al. 2025, appendix A), as AdamW: decay is 0.
    pub const PUBLISHED: Self = Self {
        beta1: 0.9,
        beta2: 0.95,
        epsilon: 1e-8,
        weight_decay: 0.0,
        decoupled: true,
    };
}

/// One Adam or AdamW over all parameters, in one pass over memory.
#[derive(Debug)]
pub struct Adam {
    config: AdamConfig,
    names: Vec<String>,
    parameters: Vec<Tensor>,
    first: Vec<Tensor>,
    second: Vec<Tensor>,
    steps: Tensor,
    /// The learning rate, beside the parameters.
    lr: Tensor,
}

impl Adam {
    /// An optimiser that has taken no step.
    pub fn new(parameters: &Parameters, config: AdamConfig) -> Self {
        let zeros = || {
            parameters
                .iter()
                .map(|(_, tensor)| tensor.detach().zeros_like())
                .collect()
        };
        let device = parameters
            .tensors()
            .first()
            .map_or(tch::Device::Cpu, |tensor| tensor.device());
        Self {
            config,
            names: parameters.iter().map(|(name, _)| name.to_owned()).collect(),
            parameters: parameters
                .iter()
                .map(|(_, tensor)| tensor.shallow_clone())
                .collect(),
            first: zeros(),
            second: zeros(),
            steps: Tensor::zeros([], (Kind::Float, device)),
            lr: Tensor::zeros([], (Kind::Float, device)),
        }
    }

    /// The learning rate of the steps to come, as the nearest f32, infinite where that is: a number on the device, which a
    /// step reads there.
    pub fn set_lr(&mut self, lr: f64) {
        let _ = self.lr.fill_(f64::from(lr as f32));
    }

    /// One step along `gradients` at the rate that was set last, 0 at first. A parameter without a gradient stays.
    ///
    /// Nothing changes where `is_finite`, a boolean on the device, is false. It is read there: nothing waits for it.
    ///
    /// # Errors
    /// If libtorch refuses, which it does where the gradients are not those of the parameters.
    pub fn step(&mut self, gradients: &Gradients, is_finite: &Tensor) -> Result<(), TorchError> {
        self.count(is_finite);
        self.update(gradients, is_finite)
    }

    /// The optimiser of the parameters in this range: the same moments, rate and count of steps.
    pub(crate) fn part(&self, range: &Range<usize>) -> Self {
        let part = |tensors: &[Tensor]| {
            let tensors = tensors[range.clone()].iter();
            tensors.map(Tensor::shallow_clone).collect()
        };
        Self {
            config: self.config,
            names: self.names[range.clone()].to_vec(),
            parameters: part(&self.parameters),
            first: part(&self.first),
            second: part(&self.second),
            steps: self.steps.shallow_clone(),
            lr: self.lr.shallow_clone(),
        }
    }

    /// Counts a step where `is_finite` is true.
    pub(crate) fn count(&mut self, is_finite: &Tensor) {
        let _ = no_grad(|| self.steps.g_add_(&is_finite.to_kind(Kind::Float)));
    }

    /// Moves the parameters by the step that was counted last.
    pub(crate) fn update(
        &mut self,
        gradients: &Gradients,
        is_finite: &Tensor,
    ) -> Result<(), TorchError> {
        let gradients = gradients.tensors();
        if gradients.len() != self.parameters.len() {
            return Err(TorchError::Argument {
                what: "gradients",
                expected: format!("one for each of {} parameters", self.parameters.len()),
                got: gradients.len().to_string(),
            });
        }
        let moving: Vec<usize> = (0..gradients.len())
            .filter(|index| gradients[*index].defined())
            .collect();
        let steps: Vec<&Tensor> = moving.iter().map(|_| &self.steps).collect();
        let tensors = AdamTensors {
            parameters: &pick(&self.parameters, &moving),
            gradients: &pick(gradients, &moving),
            first: &pick(&self.first, &moving),
            second: &pick(&self.second, &moving),
            steps: &steps,
            rate: &self.lr,
            skip: Some(&is_finite.logical_not().to_kind(Kind::Float)),
        };
        no_grad(|| Ok(operations::fused_adam(&tensors, &self.numbers())?))
    }

    fn numbers(&self) -> AdamNumbers {
        let AdamConfig {
            beta1,
            beta2,
            epsilon,
            weight_decay,
            decoupled,
        } = self.config;
        AdamNumbers {
            beta1,
            beta2,
            weight_decay,
            epsilon,
            decoupled,
        }
    }

    /// The first and second moments, each a tensor for every parameter.
    pub fn moments(&self) -> [Vec<&Tensor>; 2] {
        [&self.first, &self.second].map(|moments| moments.iter().collect())
    }

    /// How many steps were taken, a number on the device.
    pub fn steps(&self) -> &Tensor {
        &self.steps
    }

    /// The state by name, as [`crate::weights::save`] and [`crate::weights::load_strict`] take it.
    pub fn state(&self) -> Vec<(String, Tensor)> {
        let named = |prefix: &'static str, moments: &[Tensor]| {
            let names = self.names.iter().zip(moments);
            names
                .map(|(name, moment)| (format!("{prefix}.{name}"), moment.shallow_clone()))
                .collect::<Vec<_>>()
        };
        let mut state = named("first", &self.first);
        state.extend(named("second", &self.second));
        state.push(("steps".into(), self.steps.shallow_clone()));
        state
    }
}

fn pick<'a>(tensors: &'a [Tensor], indices: &[usize]) -> Vec<&'a Tensor> {
    indices.iter().map(|index| &tensors[*index]).collect()
}
