//! What a step keeps in memory against what is measured.

use meanflow_cfg::Guidance;
use meanflow_testing::{batch, config, networks, objective};
use meanflow_torch::layers::TimeEmbedding;
use meanflow_torch::networks::{NetworkConfig, UnetConfig};
use meanflow_torch::{Batch, Device, Kind, Model, Tensor, memory};

/// The peak of a step over the kept numbers of [`meanflow_torch::Flops`], after a step that has allocated gradients.
fn ratio(network: NetworkConfig, shape: &[i64], classes: i64, rows: usize) -> f64 {
    let config = config(network, shape, classes);
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

fn unet() -> NetworkConfig {
    NetworkConfig::Unet(UnetConfig {
        augment: 6,
        dropout: 0.2,
        ..networks::unet(32, &[1, 2], 2, &[16])
    })
}

#[test]
fn a_step_needs_little_more_than_what_it_keeps() {
    memory::count_live_memory_only();
    let dit = |size| networks::dit(size, 4.0, TimeEmbedding::TH);
    let mlp = networks::mlp([256, 6], TimeEmbedding::TH);
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
