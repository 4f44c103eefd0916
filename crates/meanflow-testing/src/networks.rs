//! Networks of a few hundred to a few thousand parameters, every one of them random.

use meanflow_core::Schedule;
use meanflow_core::random::{Purpose, RngStream};
use meanflow_torch::layers::TimeEmbedding;
use meanflow_torch::networks::{DitConfig, MlpConfig, NetworkConfig, UnetConfig};
use meanflow_torch::{Device, Kind, Model, ModelConfig, Prediction, Tensor};

/// A perceptron of this width and depth.
pub fn mlp([width, depth]: [i64; 2], embedding: TimeEmbedding) -> NetworkConfig {
    NetworkConfig::Mlp(MlpConfig {
        width,
        depth,
        embedding,
    })
}

/// A transformer of this patch, width, depth and number of heads.
pub fn dit(size: [i64; 4], mlp_ratio: f64, embedding: TimeEmbedding) -> NetworkConfig {
    let [patch, width, depth, heads] = size;
    NetworkConfig::Dit(DitConfig {
        patch,
        width,
        depth,
        heads,
        mlp_ratio,
        embedding,
    })
}

/// A U-Net with the filter and the embedding of the published one of CIFAR-10, without augmentation and dropout.
pub fn unet(channels: i64, multipliers: &[i64], blocks: i64, attention: &[i64]) -> UnetConfig {
    UnetConfig {
        channels,
        multipliers: multipliers.to_vec(),
        blocks,
        attention: attention.to_vec(),
        filter: vec![1.0, 3.0, 3.0, 1.0],
        noise_ratio: 2,
        embedding: TimeEmbedding::TH,
        augment: 0,
        dropout: 0.0,
    }
}

/// A network on the linear path.
pub fn config(network: NetworkConfig, shape: &[i64], classes: i64) -> ModelConfig {
    ModelConfig {
        network,
        shape: shape.to_vec(),
        classes,
        schedule: Schedule::Linear,
        prediction: Prediction::Velocity,
    }
}

/// Perceptrons and transformers with and without classes, in f64.
pub fn models(embedding: TimeEmbedding) -> Vec<Model> {
    vec![
        mlp_model(embedding, 0),
        mlp_model(embedding, 3),
        dit_model(embedding, 0),
        dit_model(embedding, 10),
    ]
}

/// A perceptron for points, in f64.
pub fn mlp_model(embedding: TimeEmbedding, classes: i64) -> Model {
    random_model(mlp([12, 2], embedding), &[2], classes)
}

/// A transformer for pictures `[3, 4, 6]`, in f64.
pub fn dit_model(embedding: TimeEmbedding, classes: i64) -> Model {
    random_model(dit([2, 16, 2, 2], 2.0, embedding), &[3, 4, 6], classes)
}

/// A model in f64 on the linear path; the published initialisation zeroes whole branches, so all parameters are redrawn.
pub fn random_model(network: NetworkConfig, shape: &[i64], classes: i64) -> Model {
    let config = config(network, shape, classes);
    let model = Model::new(config, 7, Device::Cpu, Kind::Double).expect("a small network");
    randomise(&model);
    model
}

/// Sets every parameter to normal values, scaled by the fan-in so that activations stay of order one.
pub fn randomise(model: &Model) {
    for (index, (_, tensor)) in model.parameters().iter().enumerate() {
        let fan_in = tensor.size().get(1).copied().unwrap_or(4);
        let values = normal(1000 + index as u64, &tensor.size()) / (fan_in as f64).sqrt();
        tch::no_grad(|| tensor.shallow_clone().copy_(&values));
    }
}

/// Normal values `shape`, f64.
///
/// Every test starts here, so this is where libtorch gets one thread: such tensors are too small to share out.
pub fn normal(seed: u64, shape: &[i64]) -> Tensor {
    tch::set_num_threads(1);
    let mut values = vec![0.0_f32; shape.iter().product::<i64>() as usize];
    RngStream::new(seed, Purpose::Noise, 0).fill_normal(&mut values);
    Tensor::from_slice(&values)
        .reshape(shape)
        .to_kind(Kind::Double)
}
