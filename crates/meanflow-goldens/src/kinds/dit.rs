//! Goldens of the transformer: velocity, derivative along the trajectory, and along each input alone.

use meanflow_core::Schedule;
use meanflow_torch::convert::Layout;
use meanflow_torch::layers::TimeEmbedding;
use meanflow_torch::networks::{DitConfig, NetworkConfig};
use meanflow_torch::{Conditioning, Dual, JvpInputs, Model, ModelConfig, Prediction, TorchError};
use serde::Deserialize;
use tch::Tensor;

use crate::{Computed, GoldenFile, Report, Setting, Tolerance};

/// The transformer's configuration as the official code names it.
#[derive(Deserialize)]
pub(super) struct OfficialDit {
    input_size: i64,
    patch_size: i64,
    in_channels: i64,
    hidden_size: i64,
    depth: i64,
    num_heads: i64,
    mlp_ratio: f64,
    pub(super) num_classes: i64,
}

impl OfficialDit {
    /// Our model with the weights of the file.
    pub(super) fn load(&self, file: &GoldenFile, setting: &Setting) -> Result<Model, TorchError> {
        let network = NetworkConfig::Dit(DitConfig {
            patch: self.patch_size,
            width: self.hidden_size,
            depth: self.depth,
            heads: self.num_heads,
            mlp_ratio: self.mlp_ratio,
            embedding: TimeEmbedding::TH,
        });
        let config = ModelConfig {
            network,
            shape: vec![self.in_channels, self.input_size, self.input_size],
            classes: self.num_classes,
            schedule: Schedule::Linear,
            prediction: Prediction::Velocity,
        };
        let model = Model::new(config, 0, setting.device, setting.kind)?;
        file.fill(&model, Layout::Flax)?;
        Ok(model)
    }
}

pub(super) fn check(file: &GoldenFile, setting: &Setting) -> Result<Report, TorchError> {
    let model = file.config::<OfficialDit>()?.load(file, setting)?;
    let [t, r] = ["in/t", "in/r"].map(|name| file.input(name, setting));
    let point = JvpInputs {
        z: file.picture("in/z", setting)?,
        r: r?,
        t: t?,
        condition: Conditioning::of_labels(Some(file.require("in/y")?.to_device(setting.device))),
        velocity: file.picture("in/v", setting)?,
    };
    let mut results = outputs(&model, &point, setting)?;
    let names = ["out/jvp_z_only", "out/jvp_t_only", "out/jvp_h_only"];
    for (name, tangent) in names.into_iter().zip(partials(&model, &point)?) {
        results.push(Computed::picture(name, &tangent, Tolerance::DERIVATIVE));
    }
    file.report(&results, Vec::new(), |name| name.starts_with("out/"))
}

fn outputs(
    model: &Model,
    point: &JvpInputs,
    setting: &Setting,
) -> Result<Vec<Computed>, TorchError> {
    let (u, dudt) = setting.jvp.evaluate(model, point)?;
    let [z, t] = [&point.z, &point.t].map(|x| Dual::from(x.shallow_clone()));
    let instant = model.forward(&z, &t, &t, &point.condition);
    Ok(vec![
        Computed::picture("out/u", &u, Tolerance::OUTPUT),
        Computed::picture("out/dudt", &dudt, Tolerance::DERIVATIVE),
        Computed::picture("out/v_inst", instant.primal(), Tolerance::OUTPUT),
    ])
}

/// The derivatives of `net(z, t, h)` along `z`, along `t` and along `h`; `r = t − h` moves with `t` and against `h`.
pub(super) fn partials(model: &Model, point: &JvpInputs) -> Result<[Tensor; 3], TorchError> {
    let (still, moves) = (point.velocity.zeros_like(), point.t.ones_like());
    let along = |velocity: &Tensor, dr: Tensor, dt: Tensor| -> Result<Tensor, TorchError> {
        let z = Dual::new(point.z.shallow_clone(), velocity.shallow_clone())?;
        let r = Dual::new(point.r.shallow_clone(), dr)?;
        let t = Dual::new(point.t.shallow_clone(), dt)?;
        let (u, tangent) = model.forward(&z, &r, &t, &point.condition).into_parts();
        Ok(tangent.unwrap_or_else(|| u.zeros_like()))
    };
    let (still_time, back) = (moves.zeros_like(), moves.neg());
    Ok([
        along(&point.velocity, still_time.copy(), still_time.copy())?,
        along(&still, moves.copy(), moves)?,
        along(&still, back, still_time)?,
    ])
}
