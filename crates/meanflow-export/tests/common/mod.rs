//! Small models of every kind with every parameter random, and what they draw.
#![allow(dead_code, unreachable_pub, reason = "every user takes its part")]

use meanflow_core::Schedule;
use meanflow_core::random::{Purpose, RngStream};
use meanflow_testing::config;
use meanflow_testing::networks::{self, dit, mlp};
use meanflow_torch::layers::TimeEmbedding;
use meanflow_torch::networks::{NetworkConfig, UnetConfig, Vae, VaeConfig};
use meanflow_torch::sampler::{Decoder, Request, noise, sample, uniform_grid};
use meanflow_torch::{Device, Kind, Model, ModelConfig, Parameters, Prediction, Tensor};

/// Rows that are drawn of every model.
pub const ROWS: usize = 5;

/// Patch, width, depth and heads of the transformers.
const DIT: [i64; 4] = [2, 16, 2, 2];

/// Every kind of network, with and without classes, with every embedding, filter and schedule that changes what is computed.
pub fn models() -> Vec<(&'static str, Model)> {
    let vp = Schedule::VariancePreserving {
        beta_min: 0.1,
        beta_max: 4.0,
    };
    let linear = |network, shape: &[i64], classes| model(network, shape, classes, Schedule::Linear);
    let (flat, steep) = (&[1.0, 1.0][..], &[1.0, 3.0, 3.0, 1.0][..]);
    let (th, trh) = (TimeEmbedding::TH, TimeEmbedding::TRH);
    let unet_classes = unet(TimeEmbedding::TR, flat, 0);
    let cosine = model(unet_classes, &[1, 8, 8], 3, Schedule::Cosine);
    let dit_classes = dit(DIT, 2.5, TimeEmbedding::H);
    vec![
        ("mlp", linear(mlp([12, 2], th), &[2], 0)),
        ("mlp-classes", linear(mlp([12, 2], trh), &[3], 4)),
        ("dit", model(dit(DIT, 2.5, th), &[3, 4, 6], 0, vp)),
        ("dit-classes", linear(dit_classes, &[1, 8, 8], 10)),
        (
            "dit-data",
            predicting_data(dit(DIT, 2.5, th), &[1, 8, 8], 3),
        ),
        ("unet", linear(unet(th, steep, 6), &[3, 8, 8], 0)),
        ("unet-classes", cosine),
    ]
}

/// A model of latents.
pub fn latents() -> Model {
    let network = dit(DIT, 2.5, TimeEmbedding::TH);
    model(network, &[2, 4, 6], 3, Schedule::Linear)
}

/// A VAE of such latents, with everything that the published ones have.
pub fn vae() -> Vae {
    let config = VaeConfig {
        in_channels: 3,
        out_channels: 3,
        latent_channels: 2,
        block_out_channels: vec![4, 8],
        layers_per_block: 1,
        norm_num_groups: 2,
        attention: true,
        quant_conv: true,
        post_quant_conv: true,
        scaling_factor: 0.5,
        shift_factor: 0.25,
    };
    let vae = Vae::new(config, 3, Device::Cpu, Kind::Float).unwrap();
    redraw(vae.parameters());
    vae
}

/// How the latents of the model became the VAE's.
pub fn decoder(vae: &Vae) -> Decoder<'_> {
    let (scale, shift) = (vae.config().scaling_factor, vae.config().shift_factor);
    Decoder { vae, scale, shift }
}

/// The pictures of samples of latents, as diffusers has it: `latents / scale + shift`, decoded.
pub fn decoded(vae: &Vae, samples: &Tensor) -> Tensor {
    vae.decode(&(samples / 0.5 + 0.25)).unwrap()
}

fn unet(embedding: TimeEmbedding, filter: &[f64], augment: i64) -> NetworkConfig {
    NetworkConfig::Unet(UnetConfig {
        filter: filter.to_vec(),
        embedding,
        augment,
        dropout: 0.1,
        ..networks::unet(8, &[1, 2], 1, &[4])
    })
}

/// A model in f32. The published initialisation zeroes whole branches, so all parameters are redrawn, normal over the root of the fan-in.
pub fn model(network: NetworkConfig, shape: &[i64], classes: i64, schedule: Schedule) -> Model {
    redrawn(ModelConfig {
        schedule,
        ..config(network, shape, classes)
    })
}

/// The same of a network that predicts the data.
fn predicting_data(network: NetworkConfig, shape: &[i64], classes: i64) -> Model {
    redrawn(ModelConfig {
        prediction: Prediction::Data,
        ..config(network, shape, classes)
    })
}

fn redrawn(config: ModelConfig) -> Model {
    tch::set_num_threads(1);
    let model = Model::new(config, 7, Device::Cpu, Kind::Float).unwrap();
    redraw(model.parameters());
    model
}

fn redraw(parameters: &Parameters) {
    for (index, (_, tensor)) in parameters.iter().enumerate() {
        let size = tensor.size();
        let fan_in = size[1..].iter().product::<i64>().max(1);
        let fan_in = if size.len() == 1 { 4 } else { fan_in };
        let mut values = vec![0.0_f32; tensor.numel()];
        RngStream::new(1000 + index as u64, Purpose::Noise, 0).fill_normal(&mut values);
        let values = Tensor::from_slice(&values).reshape(&size) / (fan_in as f64).sqrt();
        tch::no_grad(|| tensor.shallow_clone().copy_(&values));
    }
}

/// Seeds, of which one has more than 32 bits.
pub fn seeds() -> Vec<u64> {
    let mut seeds: Vec<u64> = (0..ROWS as u64).collect();
    seeds[ROWS - 1] = (1 << 40) + 3;
    seeds
}

/// A class for each row, of a model with classes; the last row has none.
pub fn labels(model: &Model) -> Option<Vec<i64>> {
    let classes = model.config().classes;
    let last = ROWS as i64 - 1;
    let labels = || (0..last).map(|row| row % classes).chain([classes]);
    (classes > 0).then(|| labels().collect())
}

/// What the sampler draws in so many steps.
pub fn drawn(model: &Model, steps: usize) -> Tensor {
    let (seeds, labels) = (seeds(), labels(model));
    let request = Request {
        seeds: &seeds,
        labels: labels.as_deref(),
        grid: &uniform_grid(steps),
        batch_size: ROWS,
    };
    sample(model, &request).unwrap()
}

/// The noise it begins with.
pub fn noises(model: &Model) -> Tensor {
    noise(&seeds(), &model.config().shape)
}

/// `max |a − b|`.
pub fn distance(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.size(), b.size());
    (a - b).abs().max().double_value(&[])
}
