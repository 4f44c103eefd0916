//! The published networks have as many parameters as published.

use meanflow_testing::config;
use meanflow_testing::networks::{dit, unet};
use meanflow_torch::layers::TimeEmbedding;
use meanflow_torch::networks::{NetworkConfig, UnetConfig};

fn millions(network: NetworkConfig, shape: [i64; 3], classes: i64) -> f64 {
    config(network, &shape, classes).parameter_count().unwrap() as f64 / 1e6
}

#[test]
fn transformers_of_imagenet_latents() {
    // Geng et al. 2025, Table 4, with the digits of a count of the official code.
    for (patch, width, depth, heads, published, digit) in [
        (4, 768, 12, 12, 131.17, 0.01),
        (2, 768, 12, 12, 131.09, 0.01),
        (2, 1024, 16, 16, 308.0, 0.1),
        (2, 1024, 24, 16, 459.1, 0.1),
        (2, 1152, 28, 16, 676.4, 0.1),
    ] {
        let network = dit([patch, width, depth, heads], 4.0, TimeEmbedding::TH);
        let count = millions(network, [4, 32, 32], 1000);
        assert!(
            (count - published).abs() <= digit / 2.0,
            "{width}/{depth}/{patch}: {count}"
        );
    }
}

#[test]
fn u_net_of_cifar() {
    let network = NetworkConfig::Unet(UnetConfig {
        augment: 6,
        dropout: 0.2,
        ..unet(128, &[2, 2, 2], 4, &[16])
    });
    let count = millions(network, [3, 32, 32], 0);
    assert!((count - 55.93).abs() <= 0.005, "{count}");
}
