//! Small networks with every parameter random, and batches for them, equal on every device and in every dtype.
//!
//! Parameters and inputs are numbers of f32, so that f64 holds the same numbers.

use meanflow_cfg::{Guidance, GuidanceInterval};
use meanflow_core::random::{Purpose, RngStream};
use meanflow_core::{
    AdaptiveWeight, MaskOrder, MeanFlowRatio, Reduction, Schedule, TimeDistribution, TimeSampler,
};
use meanflow_torch::layers::TimeEmbedding;
use meanflow_torch::networks::{DitConfig, MlpConfig, NetworkConfig, UnetConfig};
use meanflow_torch::{
    Batch, Conditioning, JvpInputs, JvpMethod, Model, ModelConfig, Objective, Prediction,
    TorchError,
};
use tch::{Device, Kind, Tensor, no_grad};

use crate::{Comparison, Tolerance};

/// A network that is checked, with the tolerances of its kind in f32.
pub(super) struct Subject {
    pub(super) name: &'static str,
    pub(super) config: ModelConfig,
    pub(super) tolerances: Tolerances,
}

/// What rounding in f32 explains: the bounds of the golden files, which hold for networks of their kind.
#[derive(Clone, Copy)]
pub(super) struct Tolerances {
    pub(super) output: Tolerance,
    pub(super) derivative: Tolerance,
    pub(super) losses: Tolerance,
    pub(super) gradients: Tolerance,
}

const TRANSFORMER: Tolerances = Tolerances {
    output: Tolerance::OUTPUT,
    derivative: Tolerance::DERIVATIVE,
    losses: Tolerance::LOSSES,
    gradients: Tolerance::GRADIENTS,
};
const CONVOLUTIONAL: Tolerances = Tolerances {
    output: Tolerance::UNET_OUTPUT,
    derivative: Tolerance::UNET_DERIVATIVE,
    losses: Tolerance::UNET_LOSSES,
    gradients: Tolerance::UNET_GRADIENTS,
};

/// Every kind of network.
pub(super) fn all() -> [Subject; 3] {
    let embedding = TimeEmbedding::TH;
    let mlp = NetworkConfig::Mlp(MlpConfig {
        width: 12,
        depth: 2,
        embedding,
    });
    let dit = NetworkConfig::Dit(DitConfig {
        patch: 2,
        width: 32,
        depth: 2,
        heads: 2,
        mlp_ratio: 2.0,
        embedding,
    });
    let unet = NetworkConfig::Unet(UnetConfig {
        channels: 8,
        multipliers: vec![1, 2],
        blocks: 1,
        attention: vec![4],
        filter: vec![1.0, 3.0, 3.0, 1.0],
        noise_ratio: 2,
        embedding,
        augment: 0,
        dropout: 0.0,
    });
    [
        ("mlp", mlp, vec![2], 3, TRANSFORMER),
        ("dit", dit, vec![3, 8, 8], 10, TRANSFORMER),
        ("unet", unet, vec![3, 8, 8], 4, CONVOLUTIONAL),
    ]
    .map(|(name, network, shape, classes, tolerances)| Subject {
        name,
        config: ModelConfig {
            network,
            shape,
            classes,
            schedule: Schedule::Linear,
            prediction: Prediction::Velocity,
        },
        tolerances,
    })
}

impl Subject {
    /// The network with its parameters on a device, in a dtype.
    pub(super) fn model(&self, device: Device, kind: Kind) -> Result<Model, TorchError> {
        let model = Model::new(self.config.clone(), 0, device, kind)?;
        for (index, (_, tensor)) in model.parameters().iter().enumerate() {
            // The published initialisation zeroes whole branches; this one lets every parameter count.
            let fan_in: i64 = tensor.size().iter().skip(1).product::<i64>().max(4);
            let values = normal(1000 + index as u64, &tensor.size()) / (fan_in as f64).sqrt();
            no_grad(|| tensor.shallow_clone().copy_(&values));
        }
        Ok(model)
    }

    /// A batch of which half of the rows have `r < t`, and one row has no class.
    pub(super) fn batch(&self, rows: usize, seed: u64, device: Device, kind: Kind) -> Batch {
        let law = TimeSampler {
            t: TimeDistribution::LogitNormal {
                mean: -0.4,
                std: 1.0,
            },
            r: None,
            mean_flow_ratio: MeanFlowRatio::Count(0.5),
            order: MaskOrder::AfterOrdering,
        };
        let mut shape = vec![rows as i64];
        shape.extend(&self.config.shape);
        let drawn = |seed| normal(seed, &shape).to_kind(kind).to_device(device);
        let classes = self.config.classes;
        Batch {
            data: drawn(2 * seed),
            noise: drawn(2 * seed + 1),
            labels: Some((0..rows as i64).map(|row| row % classes).collect()),
            times: law.draw(rows, &mut RngStream::new(seed, Purpose::Times, 0)),
            dropped: (0..rows).map(|row| row == 1).collect(),
            augment: None,
            dropout: None,
        }
    }

    /// A point of `rows` rows that all move.
    pub(super) fn point(&self, rows: i64, device: Device, kind: Kind) -> JvpInputs {
        let mut shape = vec![rows];
        shape.extend(&self.config.shape);
        let placed = |x: Tensor| x.to_kind(kind).to_device(device);
        let labels = Tensor::arange(rows, (Kind::Int64, device)).remainder(self.config.classes);
        JvpInputs {
            z: placed(normal(11, &shape)),
            r: placed(normal(12, &[rows]).sigmoid() * 0.5),
            t: placed(normal(13, &[rows]).sigmoid() * 0.5 + 0.5),
            condition: Conditioning::of_labels(Some(labels)),
            velocity: placed(normal(14, &shape)),
        }
    }
}

/// The loss with the guidance of the published B/4: ω = 1, κ = ½.
pub(super) fn objective() -> Objective {
    Objective {
        schedule: Schedule::Linear,
        weight: AdaptiveWeight {
            norm_p: 0.5,
            norm_eps: 0.01,
            reduction: Reduction::Sum,
        },
        guidance: Guidance::new(1.0, 0.5, GuidanceInterval::ALL)
            .expect("scales within their bounds"),
        jvp: JvpMethod::Dual,
    }
}

/// Loss `[1]`, prediction errors of the rows `[B]` and all gradients as one vector `[P]`.
pub(super) fn step(model: &Model, batch: &Batch) -> Result<[Tensor; 3], TorchError> {
    model.parameters().zero_grad();
    let loss = objective().loss(model, batch)?;
    loss.loss.backward();
    let gradients: Vec<Tensor> = model
        .parameters()
        .tensors()
        .into_iter()
        .map(|tensor| {
            let gradient = tensor.grad();
            let defined = gradient.defined();
            let gradient = if defined {
                gradient.copy()
            } else {
                tensor.zeros_like()
            };
            gradient.reshape([-1])
        })
        .collect();
    let loss_value = loss.loss.detach().unsqueeze(0);
    Ok([loss_value, loss.v_loss, Tensor::cat(&gradients, 0)])
}

/// Normal numbers of this shape on the CPU, rounded to f32.
pub(super) fn normal(seed: u64, shape: &[i64]) -> Tensor {
    let mut values = vec![0.0_f32; shape.iter().product::<i64>() as usize];
    RngStream::new(seed, Purpose::Noise, 0).fill_normal(&mut values);
    Tensor::from_slice(&values).reshape(shape)
}

/// Whether two tensors hold the same bits, as a comparison without tolerance.
pub(super) fn same(name: &str, ours: &Tensor, other: &Tensor) -> Comparison {
    Comparison::new(name, ours, other, Tolerance::EXACT)
}
