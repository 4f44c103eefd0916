//! Small models with every parameter random, and batches for them.
#![allow(dead_code, unreachable_pub, reason = "every test file uses its part")]

pub mod gaussian;

use meanflow_cfg::Guidance;
use meanflow_core::random::{Purpose, RngStream};
use meanflow_core::{
    AdaptiveWeight, MaskOrder, MeanFlowRatio, Reduction, Schedule, TimeDistribution, TimeSampler,
};
use meanflow_torch::layers::TimeEmbedding;
use meanflow_torch::networks::{DitConfig, MlpConfig, NetworkConfig};
use meanflow_torch::{
    Batch, Device, Dual, JvpMethod, Kind, Model, ModelConfig, Objective, Tensor, jvp,
};

/// Every network, small, in f64; the published initialisation zeroes whole branches, so all parameters are redrawn.
pub fn models(embedding: TimeEmbedding) -> Vec<Model> {
    vec![
        mlp(embedding, 0),
        mlp(embedding, 3),
        dit(embedding, 0),
        dit(embedding, 10),
    ]
}

pub fn mlp(embedding: TimeEmbedding, classes: i64) -> Model {
    let network = NetworkConfig::Mlp(MlpConfig {
        width: 12,
        depth: 2,
        embedding,
    });
    random_model(network, vec![2], classes)
}

pub fn dit(embedding: TimeEmbedding, classes: i64) -> Model {
    let network = NetworkConfig::Dit(DitConfig {
        patch: 2,
        width: 16,
        depth: 2,
        heads: 2,
        mlp_ratio: 2.0,
        embedding,
    });
    random_model(network, vec![3, 4, 6], classes)
}

pub fn random_model(network: NetworkConfig, shape: Vec<i64>, classes: i64) -> Model {
    let config = ModelConfig {
        network,
        shape,
        classes,
        schedule: Schedule::Linear,
    };
    let model = Model::new(config, 7, Device::Cpu, Kind::Double).unwrap();
    randomise(&model);
    model
}

/// Normal values for every parameter, scaled by the fan-in so that activations stay of order one.
pub fn randomise(model: &Model) {
    for (index, (_, tensor)) in model.parameters().iter().enumerate() {
        let fan_in = tensor.size().get(1).copied().unwrap_or(4);
        let values = normal(1000 + index as u64, &tensor.size()) / (fan_in as f64).sqrt();
        tch::no_grad(|| tensor.shallow_clone().copy_(&values));
    }
}

/// Normal values `shape`, f64.
///
/// Every test starts here, so this is where libtorch is told that such tensors are too small to share out.
pub fn normal(seed: u64, shape: &[i64]) -> Tensor {
    tch::set_num_threads(1);
    let mut values = vec![0.0_f32; shape.iter().product::<i64>() as usize];
    RngStream::new(seed, Purpose::Noise, 0).fill_normal(&mut values);
    Tensor::from_slice(&values)
        .reshape(shape)
        .to_kind(Kind::Double)
}

/// A batch of `rows` samples of which the share `jumps` has `r < t`.
pub fn batch(model: &Model, rows: usize, jumps: f64, drop: &[usize]) -> Batch {
    let law = TimeSampler {
        t: TimeDistribution::LogitNormal {
            mean: -0.4,
            std: 1.0,
        },
        r: None,
        mean_flow_ratio: MeanFlowRatio::Count(jumps),
        order: MaskOrder::AfterOrdering,
    };
    let mut shape = vec![rows as i64];
    shape.extend(&model.config().shape);
    let classes = model.config().classes;
    Batch {
        data: normal(1, &shape),
        noise: normal(2, &shape),
        labels: (classes > 0).then(|| (0..rows as i64).map(|row| row % classes).collect()),
        times: law.draw(rows, &mut RngStream::new(5, Purpose::Times, 0)),
        dropped: (0..rows).map(|row| drop.contains(&row)).collect(),
        augment: None,
        dropout: None,
    }
}

pub fn objective(guidance: Guidance) -> Objective {
    Objective {
        schedule: Schedule::Linear,
        weight: AdaptiveWeight {
            norm_p: 0.5,
            norm_eps: 0.01,
            reduction: Reduction::Sum,
        },
        guidance,
        engine: JvpMethod::Dual,
    }
}

/// `max |a − b| / max |b|`.
pub fn relative(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.size(), b.size());
    let scale = b.abs().max().double_value(&[]).max(1e-300);
    (a - b).abs().max().double_value(&[]) / scale
}

/// The gradients of `loss` in the parameters' order.
pub fn gradients(model: &Model, loss: &Tensor) -> Vec<Tensor> {
    model.parameters().zero_grad();
    loss.backward();
    let gradient = |tensor: &Tensor| {
        let gradient = tensor.grad();
        if gradient.defined() {
            gradient.copy()
        } else {
            tensor.zeros_like()
        }
    };
    model
        .parameters()
        .iter()
        .map(|(_, tensor)| gradient(tensor))
        .collect()
}

/// Rounding of a handful of f64 operations.
const EXACT: f64 = 1e-12;

/// Checks a rule of arguments `shapes` with tangents in their first `k` rows against libtorch's forward mode.
pub fn agrees(shapes: &[Vec<i64>], k: i64, rule: impl Fn(&[Dual]) -> Dual) {
    let draw = |seed: u64| -> Vec<Tensor> {
        (seed..)
            .zip(shapes)
            .map(|(seed, shape)| normal(seed, shape))
            .collect()
    };
    let (primals, tangents) = (draw(0), draw(100));
    let duals: Vec<Dual> = primals
        .iter()
        .zip(&tangents)
        .map(|(x, dx)| Dual::new(x.shallow_clone(), dx.narrow(0, 0, k)).unwrap())
        .collect();
    let (primal, tangent) = rule(&duals).into_parts();
    let plain = |x: &[Tensor]| {
        let plain: Vec<Dual> = x.iter().map(|x| x.shallow_clone().into()).collect();
        vec![rule(&plain).into_parts().0]
    };
    let (values, derivatives) = jvp(plain, &primals, &tangents).unwrap();
    assert!(relative(&primal, &values[0]) < EXACT);
    assert!(relative(&tangent.unwrap(), &derivatives[0].narrow(0, 0, k)) < EXACT);
}
