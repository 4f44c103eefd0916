//! The sampler as a record of libtorch's operations, for other programs that compute it.

use meanflow_core::identity;
use meanflow_libtorch::recover;
use meanflow_libtorch::trace::{self, Trace};
use tch::{Kind, Tensor, no_grad};

use super::grid;
use crate::dual::kernels;
use crate::model::condition::Conditioning;
use crate::networks::Vae;
use crate::tensor::{Rows, per_row};
use crate::{Dual, Model, TorchError};

/// A record with the names of its inputs.
#[derive(Debug)]
pub struct Traced {
    /// The operations.
    pub trace: Trace,
    /// Its inputs in their order: `noise`, of a model with classes `labels`, and the parameters with their names.
    pub inputs: Vec<(String, Tensor)>,
    /// How many of the inputs change from one evaluation to another; the parameters follow them.
    pub free: usize,
}

/// What makes pictures of the latents of a model: a VAE, and how latents became what the model draws, `(latent − shift) · scale`.
#[derive(Clone, Copy, Debug)]
pub struct Decoder<'a> {
    /// Its decoder is part of the record; its parameters have `vae.` before their names.
    pub vae: &'a Vae,
    /// The factor of the latents.
    pub scale: f64,
    /// What was taken from the latents before.
    pub shift: f64,
}

impl Decoder<'_> {
    /// `[B, C, h, w]` as the model draws them to pictures `[B, channels, H, W]`.
    fn decode(&self, latents: Tensor) -> Tensor {
        let latents = latents / self.scale + self.shift;
        self.vae.network().decode(&latents.into()).into_parts().0
    }

    /// As the model's own, so that no two have one name.
    fn parameters(&self) -> impl Iterator<Item = (String, Tensor)> {
        let named = self.vae.parameters().named().into_iter();
        named.map(|(name, tensor)| (format!("vae.{name}"), tensor))
    }
}

/// What changes from one evaluation to another: noises and, of a model with classes, labels.
fn free_inputs(model: &Model, rows: i64) -> Vec<(String, Tensor)> {
    let (kind, device) = (model.kind(), model.device());
    let size = [&[rows], &model.config().shape[..]].concat();
    let mut inputs = vec![("noise".to_owned(), Tensor::zeros(size, (kind, device)))];
    if model.config().classes > 0 {
        let labels = Tensor::zeros([rows], (Kind::Int64, device));
        inputs.push(("labels".to_owned(), labels));
    }
    inputs
}

/// Records the jumps from `rows` noises to samples over the times of `grid`, by operations of libtorch alone; with a decoder to the
/// pictures of the samples.
///
/// The times are those of all rows together: what a network makes of them alone it makes once.
///
/// # Errors
/// If the grid does not decrease from 1 to 0, the network cannot take one time for several rows, or the VAE has other latents.
pub fn trace(
    model: &Model,
    rows: i64,
    grid: &[f64],
    decoder: Option<Decoder<'_>>,
) -> Result<Traced, TorchError> {
    grid::check(grid)?;
    if let Some(decoder) = decoder {
        decoder.vae.fits(&model.config().shape)?;
    }
    let mut inputs = free_inputs(model, rows);
    let free = inputs.len();
    let noise = inputs[0].1.shallow_clone();
    let labels = inputs.get(1).map(|(_, labels)| labels.shallow_clone());
    inputs.extend(model.parameters().named());
    inputs.extend(decoder.iter().flat_map(Decoder::parameters));
    // Made before anything is recorded: constants.
    let times: Vec<Dual> = grid
        .iter()
        .map(|time| per_row(&[*time], &noise).into())
        .collect();
    let tensors: Vec<&Tensor> = inputs.iter().map(|(_, tensor)| tensor).collect();
    let jumps = || {
        let mut z = Rows(noise * model.config().schedule.prior_scale());
        for (place, step) in grid.windows(2).enumerate() {
            let condition = Conditioning::of_labels(labels.as_ref().map(Tensor::shallow_clone));
            let state = z.0.shallow_clone().into();
            let u = model.forward(&state, &times[place + 1], &times[place], &condition);
            z = identity::jump(&z, &Rows(u.into_parts().0), &[step[0] - step[1]]);
        }
        let sample = match decoder {
            Some(decoder) => decoder.decode(z.0),
            None => z.0,
        };
        Ok::<_, TorchError>(vec![sample])
    };
    let trace = recover("record the sampler", || {
        kernels::with_primitives_only(|| no_grad(|| trace::trace(&tensors, jumps)))
    })?;
    Ok(Traced {
        trace,
        inputs,
        free,
    })
}
