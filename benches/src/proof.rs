//! What the other rivals must agree with: weights, a batch, its loss and every gradient, in a file.

use std::collections::BTreeMap;
use std::path::Path;

use meanflow_core::random::{Purpose, RngStream};
use meanflow_torch::{Batch, Kind, Model, Tensor, TorchError, weights};

use crate::Training;

/// Writes `weight.NAME` and `gradient.NAME` of every parameter, `batch.{data, noise, r, t, labels, dropped}`, the scalar
/// `loss` and `v_loss [B]`, all f32 but the int64 `labels` and `dropped`.
///
/// # Errors
/// If libtorch refuses, or the file cannot be written.
pub fn export(training: &Training, jump_share: f64, file: &Path) -> Result<(), TorchError> {
    let model = training.model();
    randomise(model);
    let batch = training.batch(jump_share);
    model.parameters().zero_grad();
    let loss = training.loss(&batch)?;
    loss.loss.backward();
    let mut tensors = tensors_of(&batch);
    tensors.push(("loss".into(), loss.loss.detach()));
    tensors.push(("v_loss".into(), loss.v_loss));
    for (name, tensor) in model.parameters().named() {
        let gradient = tensor.grad();
        let gradient = if gradient.defined() {
            gradient
        } else {
            tensor.zeros_like()
        };
        tensors.push((format!("gradient.{name}"), gradient));
        tensors.push((format!("weight.{name}"), tensor.detach()));
    }
    weights::save(file, &tensors, BTreeMap::new())
}

/// Weights that let every parameter matter: normal, scaled by the fan-in. A fresh network's are zero where it counts.
pub fn randomise(model: &Model) {
    for (index, (_, tensor)) in model.parameters().iter().enumerate() {
        let shape = tensor.size();
        let fan_in = match shape.as_slice() {
            // A bias.
            [_] => 4,
            _ => shape.iter().skip(1).product(),
        };
        let mut values = vec![0.0_f32; tensor.numel()];
        RngStream::new(1, Purpose::Init, index as u64).fill_normal(&mut values);
        let values = Tensor::from_slice(&values).reshape(shape) / (fan_in as f64).sqrt();
        tch::no_grad(|| tensor.shallow_clone().copy_(&values));
    }
}

fn tensors_of(batch: &Batch) -> Vec<(String, Tensor)> {
    let float = |values: Vec<f64>| Tensor::from_slice(&values).to_kind(Kind::Float);
    let dropped: Vec<i64> = batch.dropped.iter().map(|drop| i64::from(*drop)).collect();
    let labels = batch.labels.as_deref().unwrap_or_default();
    let named = [
        ("batch.data", batch.data.shallow_clone()),
        ("batch.noise", batch.noise.shallow_clone()),
        ("batch.r", float(batch.times.rs())),
        ("batch.t", float(batch.times.ts())),
        ("batch.labels", Tensor::from_slice(labels)),
        ("batch.dropped", Tensor::from_slice(&dropped)),
    ];
    named
        .into_iter()
        .map(|(name, tensor)| (name.to_owned(), tensor))
        .collect()
}
