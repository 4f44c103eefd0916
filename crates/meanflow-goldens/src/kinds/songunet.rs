//! Goldens of the U-Net: velocity, derivatives, a sample, and a whole training step.

use meanflow_cfg::Guidance;
use meanflow_core::{AdaptiveWeight, Reduction, Schedule};
use meanflow_torch::convert::Layout;
use meanflow_torch::layers::TimeEmbedding;
use meanflow_torch::networks::{NetworkConfig, UnetConfig};
use meanflow_torch::{
    Batch, Conditioning, Dual, JvpInputs, Model, ModelConfig, Objective, Prediction, Rows,
    TorchError, sampler,
};
use serde::Deserialize;
use tch::{Tensor, no_grad};

use super::dit::partials;
use super::step::{Regression, gradients, mean_flow_rows_first};
use crate::{Comparison, Computed, GoldenFile, Report, Setting, Tolerance};

#[derive(Deserialize)]
struct Config {
    net: OfficialUnet,
    loss: Loss,
    #[serde(default)]
    grad_l2_norms_order: Vec<String>,
}

/// The U-Net's configuration as the official code names it.
#[derive(Deserialize)]
struct OfficialUnet {
    img_resolution: i64,
    in_channels: i64,
    augment_dim: i64,
    model_channels: i64,
    channel_mult: Vec<i64>,
    channel_mult_noise: i64,
    num_blocks: i64,
    attn_resolutions: Vec<i64>,
    resample_filter: Vec<f64>,
}

#[derive(Deserialize)]
struct Loss {
    norm_p: f64,
    norm_eps: f64,
}

impl OfficialUnet {
    /// Our model with the weights of the file.
    fn load(self, file: &GoldenFile, setting: &Setting) -> Result<Model, TorchError> {
        let network = NetworkConfig::Unet(UnetConfig {
            channels: self.model_channels,
            multipliers: self.channel_mult,
            blocks: self.num_blocks,
            attention: self.attn_resolutions,
            filter: self.resample_filter,
            noise_ratio: self.channel_mult_noise,
            embedding: TimeEmbedding::TH,
            augment: self.augment_dim,
            dropout: 0.0,
        });
        let config = ModelConfig {
            network,
            shape: vec![self.in_channels, self.img_resolution, self.img_resolution],
            classes: 0,
            schedule: Schedule::Linear,
            prediction: Prediction::Velocity,
        };
        let model = Model::new(config, 0, setting.device, setting.kind)?;
        file.fill(&model, Layout::PyTorch)?;
        Ok(model)
    }
}

pub(super) fn check(file: &GoldenFile, setting: &Setting) -> Result<Report, TorchError> {
    let config: Config = file.config()?;
    let weight = AdaptiveWeight::new(config.loss.norm_p, config.loss.norm_eps, Reduction::Sum)
        .map_err(|error| file.problem(error.to_string()))?;
    let objective = Objective {
        schedule: Schedule::Linear,
        weight,
        guidance: Guidance::NONE,
        jvp: setting.jvp,
    };
    let model = config.net.load(file, setting)?;
    let mut results = forward(file, &model, setting)?;
    let (step, all) = step(
        file,
        &model,
        &objective,
        setting,
        &config.grad_l2_norms_order,
    )?;
    results.extend(step);
    file.report(&results, all, is_result)
}

/// What is in the folder of the step and given, not computed.
const DRAWS: [&str; 5] = ["step/x", "step/augment", "step/t", "step/r", "step/e"];

fn is_result(name: &str) -> bool {
    let folders = ["out/", "step/", "grad/"];
    folders.iter().any(|folder| name.starts_with(folder)) && !DRAWS.contains(&name)
}

fn forward(
    file: &GoldenFile,
    model: &Model,
    setting: &Setting,
) -> Result<Vec<Computed>, TorchError> {
    let point = JvpInputs {
        z: file.input("in/x", setting)?,
        r: file.input("in/r", setting)?,
        t: file.input("in/t", setting)?,
        condition: Conditioning {
            augment: file.optional("in/augment", setting),
            ..Conditioning::default()
        },
        velocity: file.input("in/v", setting)?,
    };
    let (u, dudt) = no_grad(|| setting.jvp.evaluate(model, &point))?;
    let [z, r, t] = [&point.z, &point.r, &point.t].map(|x| Dual::from(x.shallow_clone()));
    let plain = no_grad(|| model.forward(&z, &r, &t, &Conditioning::default()));
    let sample = sampler::from_noise(model, &point.z, None, &[1.0, 0.0])?;
    let (output, derivative) = (Tolerance::UNET_OUTPUT, Tolerance::UNET_DERIVATIVE);
    let names = ["out/jvp_x_only", "out/jvp_t_only", "out/jvp_h_only"];
    let partials = names.into_iter().zip(partials(model, &point)?);
    let mut results: Vec<Computed> = partials
        .map(|(name, tangent)| Computed::new(name, tangent, derivative))
        .collect();
    results.extend([
        Computed::new("out/u", u, output),
        Computed::new("out/dudt", dudt, derivative),
        Computed::new("out/u_no_augment", plain.into_parts().0, output),
        Computed::new("out/sample_1step", sample, output),
    ]);
    Ok(results)
}

fn step(
    file: &GoldenFile,
    model: &Model,
    objective: &Objective,
    setting: &Setting,
    order: &[String],
) -> Result<(Vec<Computed>, Vec<Comparison>), TorchError> {
    let (t, r) = (file.numbers("step/t")?, file.numbers("step/r")?);
    let (times, rows) = mean_flow_rows_first(file, &r, &t)?;
    let index = Tensor::from_slice(&rows).to_device(setting.device);
    let pick = |x: Tensor| x.index_select(0, &index);
    let batch = Batch {
        data: pick(file.input("step/x", setting)?),
        noise: pick(file.input("step/e", setting)?),
        labels: None,
        dropped: vec![false; t.len()],
        times,
        augment: file.optional("step/augment", setting).map(pick),
        dropout: None,
    };
    let back = index.argsort(0, false);
    let mut results: Vec<Computed> = intermediates(model, objective, &batch)?
        .into_iter()
        .map(|result| Computed {
            value: result.value.index_select(0, &back),
            ..result
        })
        .collect();
    let loss = objective.loss(model, &batch)?.loss;
    model.parameters().zero_grad();
    loss.backward();
    results.push(Computed::new("step/loss", loss.detach(), Tolerance::LOSS));
    let tolerances = [Tolerance::UNET_GRADIENT, Tolerance::UNET_GRADIENTS];
    let (gradients, all) = gradients(file, model, Layout::PyTorch, tolerances);
    results.push(norms(file, &gradients, order)?);
    results.extend(gradients);
    Ok((results, all))
}

/// The norms of all gradients, in the order of the file.
fn norms(
    file: &GoldenFile,
    gradients: &[Computed],
    order: &[String],
) -> Result<Computed, TorchError> {
    let norm = |name: &String| {
        let of = |result: &&Computed| result.name.strip_prefix("grad/") == Some(name);
        let gradient = gradients.iter().find(of);
        gradient
            .map(|gradient| gradient.value.norm().double_value(&[]))
            .ok_or_else(|| file.problem(format!("grad_l2_norms_order: no parameter {name}")))
    };
    let norms: Vec<f64> = order.iter().map(norm).collect::<Result<_, _>>()?;
    let norms = Tensor::from_slice(&norms);
    Ok(Computed::new(
        "step/grad_l2_norms",
        norms,
        Tolerance::UNET_GRADIENTS,
    ))
}

/// Everything on the way to the loss, computed on all rows: the step itself computes less.
fn intermediates(
    model: &Model,
    objective: &Objective,
    batch: &Batch,
) -> Result<Vec<Computed>, TorchError> {
    let t = batch.times.ts();
    let [x, e] = [&batch.data, &batch.noise].map(|x| Rows(x.shallow_clone()));
    let z = objective.schedule.interpolate(&x, &e, &t);
    let v = objective.schedule.velocity(&x, &e, &t);
    let condition = Conditioning {
        augment: batch.augment.as_ref().map(Tensor::shallow_clone),
        ..Conditioning::default()
    };
    let regression = Regression::new(model, objective, batch, [&z, &v], condition)?;
    let (output, sums) = (Tolerance::UNET_OUTPUT, Tolerance::UNET_LOSSES);
    Ok(vec![
        Computed::new("step/z", z.0, output),
        Computed::new("step/v", v.0, output),
        Computed::new("step/u", regression.u, output),
        Computed::new("step/dudt", regression.dudt, Tolerance::UNET_DERIVATIVE),
        Computed::new("step/u_tgt", regression.target, output),
        Computed::new("step/loss_per_sample", regression.losses, sums),
        Computed::new("step/adaptive_weight", regression.weights, sums),
    ])
}
