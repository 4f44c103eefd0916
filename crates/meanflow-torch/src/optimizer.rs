//! Adam and AdamW with a state that can be saved and read back.

use meanflow_libtorch::operations::{self, AdamNumbers, AdamTensors};
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor, no_grad};

use crate::{Parameters, TorchError};

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
    rate: Tensor,
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
            rate: Tensor::zeros([], (Kind::Float, device)),
        }
    }

    /// The learning rate of the steps to come, as the nearest f32, infinite where that is: a number on the device, which a
    /// step reads there.
    pub fn set_rate(&mut self, rate: f64) {
        let _ = self.rate.fill_(f64::from(rate as f32));
    }

    /// One step at the rate that was set last, 0 at first, with the gradients that the parameters carry; one that has none
    /// stays.
    ///
    /// # Errors
    /// If libtorch refuses.
    pub fn step(&mut self) -> Result<(), TorchError> {
        self.advance(None)
    }

    /// As [`Adam::step`], unless `bad`, a boolean on the device, is true: then nothing changes. Nobody waits to know it.
    ///
    /// # Errors
    /// If libtorch refuses.
    pub fn step_unless(&mut self, bad: &Tensor) -> Result<(), TorchError> {
        self.advance(Some(&bad.to_kind(Kind::Float)))
    }

    fn advance(&mut self, skip: Option<&Tensor>) -> Result<(), TorchError> {
        no_grad(|| {
            let _ = match skip {
                Some(skip) => self.steps.g_add_(&(1.0 - skip)),
                None => self.steps.g_add_scalar_(1.0),
            };
            let gradients: Vec<Tensor> = self.parameters.iter().map(Tensor::grad).collect();
            let moving: Vec<usize> = (0..gradients.len())
                .filter(|index| gradients[*index].defined())
                .collect();
            let steps: Vec<&Tensor> = moving.iter().map(|_| &self.steps).collect();
            let tensors = AdamTensors {
                parameters: &pick(&self.parameters, &moving),
                gradients: &pick(&gradients, &moving),
                first: &pick(&self.first, &moving),
                second: &pick(&self.second, &moving),
                steps: &steps,
                rate: &self.rate,
                skip,
            };
            Ok(operations::fused_adam(&tensors, &self.numbers())?)
        })
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
