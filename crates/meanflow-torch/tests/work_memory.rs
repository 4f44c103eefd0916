//! What a step keeps in memory against what is measured.

mod common;

use common::{batch, objective};
use meanflow_cfg::Guidance;
use meanflow_core::Schedule;
use meanflow_torch::layers::TimeEmbedding;
use meanflow_torch::networks::{DitConfig, MlpConfig, NetworkConfig, UnetConfig};
use meanflow_torch::{Batch, Device, Kind, Model, ModelConfig, Tensor, memory};

/// The peak of a step over the kept numbers of [`meanflow_torch::Flops`], after a step that has allocated gradients.
fn ratio(network: NetworkConfig, shape: &[i64], classes: i64, rows: usize) -> f64 {
    let config = ModelConfig {
        network,
        shape: shape.to_vec(),
        classes,
        schedule: Schedule::Linear,
    };
    let kept = config.flops().unwrap().kept;
    let model = Model::new(config, 0, Device::Cpu, Kind::Float).unwrap();
    let whole = batch(&model, rows, 0.25, &[]);
    let float = |x: &Tensor| x.to_kind(Kind::Float);
    let batch = Batch {
        data: float(&whole.data),
        noise: float(&whole.noise),
        dropout: Some(1),
        augment: (shape[0] == 3)
            .then(|| Tensor::zeros([rows as i64, 6], (Kind::Float, Device::Cpu))),
        ..whole
    };
    let objective = objective(Guidance::NONE);
    let step = || {
        model.parameters().zero_grad();
        objective.loss(&model, &batch).unwrap().loss.backward();
    };
    step();
    let peak = memory::peak(step).1.expect("Linux tells");
    let estimate = 4 * kept * rows as u64;
    println!(
        "{shape:?} × {rows}: kept {} MiB, peak {} MiB",
        estimate >> 20,
        peak >> 20
    );
    peak as f64 / estimate as f64
}

fn dit([patch, width, depth, heads]: [i64; 4]) -> NetworkConfig {
    NetworkConfig::Dit(DitConfig {
        patch,
        width,
        depth,
        heads,
        mlp_ratio: 4.0,
        embedding: TimeEmbedding::TH,
    })
}

fn unet() -> NetworkConfig {
    NetworkConfig::Unet(UnetConfig {
        channels: 32,
        multipliers: vec![1, 2],
        blocks: 2,
        attention: vec![16],
        filter: vec![1.0, 3.0, 3.0, 1.0],
        noise_ratio: 2,
        embedding: TimeEmbedding::TH,
        augment: 6,
        dropout: 0.2,
    })
}

#[test]
fn a_step_needs_little_more_than_what_it_keeps() {
    memory::count_live_memory_only();
    let mlp = NetworkConfig::Mlp(MlpConfig {
        width: 256,
        depth: 6,
        embedding: TimeEmbedding::TH,
    });
    for (network, shape, classes, rows) in [
        (dit([4, 96, 4, 4]), vec![1, 8, 8], 10, 256),
        (dit([4, 384, 12, 6]), vec![4, 32, 32], 1000, 4),
        (unet(), vec![3, 32, 32], 0, 6),
        (mlp, vec![2], 0, 512),
    ] {
        // All that is kept is held at once, when the backward pass begins; above it are gradients of activations, tangents and the
        // buffers of kernels: 2 to 12 % when this was written.
        let ratio = ratio(network, &shape, classes, rows);
        assert!((1.0..1.15).contains(&ratio), "{shape:?}: {ratio}");
    }
}
