//! Goldens of the optimisers: steps with given gradients, and the average after each.

use meanflow_torch::{Adam, AdamConfig, Gradients, Parameters, TorchError, ema};
use serde::Deserialize;
use tch::{Kind, Tensor};

use crate::{Computed, GoldenFile, Report, Setting, Tolerance};

#[derive(Deserialize)]
struct Config {
    adamw: Option<Constants>,
    adam: Option<Constants>,
}

#[derive(Deserialize)]
struct Constants {
    lr: f64,
    b1: f64,
    b2: f64,
    eps: f64,
    #[serde(default)]
    weight_decay: f64,
    ema: f64,
}

pub(super) fn check(file: &GoldenFile, setting: &Setting) -> Result<Report, TorchError> {
    let config: Config = file.config()?;
    let mut results = Vec::new();
    for (name, constants, decoupled) in
        [("adamw", config.adamw, true), ("adam", config.adam, false)]
    {
        if let Some(constants) = constants {
            results.extend(trajectory(file, setting, name, &constants, decoupled)?);
        }
    }
    file.report(&results, Vec::new(), |name| {
        ["adamw/", "adam/"]
            .iter()
            .any(|folder| name.starts_with(folder))
    })
}

fn trajectory(
    file: &GoldenFile,
    setting: &Setting,
    name: &str,
    constants: &Constants,
    decoupled: bool,
) -> Result<Vec<Computed>, TorchError> {
    let parameters = start(file, setting)?;
    let average = parameters.frozen_copy();
    let config = AdamConfig {
        beta1: constants.b1,
        beta2: constants.b2,
        epsilon: constants.eps,
        weight_decay: constants.weight_decay,
        decoupled,
    };
    let mut adam = Adam::new(&parameters, config);
    let weight = Tensor::full([], 1.0 - constants.ema, (setting.kind, setting.device));
    let mut results = Vec::new();
    for step in 1.. {
        if file.below(&format!("in/grad_{step}/")).next().is_none() {
            break;
        }
        set_gradients(file, setting, &parameters, step)?;
        adam.set_lr(constants.lr);
        let gradients = Gradients::take(&parameters)?;
        let is_finite = gradients.is_finite();
        adam.step(&gradients, &is_finite)?;
        ema::update(&average, &parameters, &weight, &is_finite)?;
        let tensors = [("params", &parameters), ("ema", &average)];
        let moments = moments_tolerance(constants, setting);
        results.extend(state(&format!("{name}/"), step, &tensors, (&adam, moments)));
    }
    Ok(results)
}

/// That of moments, and on a CUDA device in f32 also what libtorch's fused kernel is off by: there it subtracts a β that was rounded to
/// f32 from 1.
fn moments_tolerance(constants: &Constants, setting: &Setting) -> Tolerance {
    if !setting.device.is_cuda() || setting.kind != Kind::Float {
        return Tolerance::MOMENT;
    }
    let off = |beta: f64| (f64::from(beta as f32) - beta).abs() / (1.0 - beta);
    Tolerance::MOMENT.widened(off(constants.b1).max(off(constants.b2)))
}

/// Parameters, averages and moments after a step, the last within a tolerance of their own.
fn state(
    folder: &str,
    step: u32,
    tensors: &[(&str, &Parameters)],
    (adam, moments): (&Adam, Tolerance),
) -> Vec<Computed> {
    let mut results = Vec::new();
    for (what, tensors) in tensors {
        for (leaf, tensor) in tensors.iter() {
            let (name, value) = (
                format!("{folder}{what}_{step}/{leaf}"),
                tensor.detach().copy(),
            );
            results.push(Computed::new(name, value, Tolerance::PARAMETER));
        }
    }
    for (name, moment) in adam.state() {
        for (ours, official) in [("first.", "mu"), ("second.", "nu")] {
            if let Some(leaf) = name.strip_prefix(ours) {
                let name = format!("{folder}{official}_{step}/{leaf}");
                results.push(Computed::new(name, moment.copy(), moments));
            }
        }
    }
    results
}

/// The parameters before the first step.
fn start(file: &GoldenFile, setting: &Setting) -> Result<Parameters, TorchError> {
    let leaves = file.below("in/params_0/").map(|leaf| {
        let value = file.input(&format!("in/params_0/{leaf}"), setting)?;
        Ok((leaf.to_owned(), value.copy()))
    });
    Ok(Parameters::of(leaves.collect::<Result<_, TorchError>>()?))
}

/// Lets the parameters carry the gradients of the file: those of `Σ ⟨parameter, gradient⟩`.
fn set_gradients(
    file: &GoldenFile,
    setting: &Setting,
    parameters: &Parameters,
    step: u32,
) -> Result<(), TorchError> {
    let mut sum = Tensor::zeros([], (setting.kind, setting.device));
    for (leaf, parameter) in parameters.iter() {
        let gradient = file.input(&format!("in/grad_{step}/{leaf}"), setting)?;
        sum += (parameter * gradient).sum(None::<Kind>);
    }
    sum.backward();
    Ok(())
}
