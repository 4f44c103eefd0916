//! What a network is said to cost against published figures, and against the counter of PyTorch.

use meanflow_testing::config;
use meanflow_testing::networks::{dit, mlp, unet};
use meanflow_torch::layers::TimeEmbedding;
use meanflow_torch::networks::{NetworkConfig, UnetConfig};
use meanflow_torch::{Flops, JvpMethod};

fn flops(network: NetworkConfig, shape: &[i64], classes: i64) -> Flops {
    config(network, shape, classes).flops().unwrap()
}

#[test]
fn transformers_cost_what_is_published() {
    // Peebles and Xie 2023, Table 4, where a "Gflop" is 10⁹ multiply-adds. Only one time is embedded there.
    for (size, published) in [
        ([4, 384, 12, 6], 1.41),
        ([2, 384, 12, 6], 6.06),
        ([4, 768, 12, 12], 5.56),
        ([2, 768, 12, 12], 23.01),
        ([2, 1024, 24, 16], 80.71),
        ([2, 1152, 28, 16], 118.64),
    ] {
        let work = flops(dit(size, 4.0, TimeEmbedding::H), &[4, 32, 32], 1000);
        let billions = work.forward() / 2e9;
        // The last digit is rounded, and what is counted there besides products is not said: a thousandth is left for it.
        let room = 0.005 + 1e-3 * published;
        assert!((published - billions).abs() < room, "{size:?}: {billions}");
    }
}

/// Forward and backward of a row by PyTorch 2.11's counter, with attention made of products: `benches/peers/flops.py`.
#[test]
fn pytorch_counts_the_same() {
    let th = TimeEmbedding::TH;
    let (cifar, small) = (
        unet(128, &[2, 2, 2], 4, &[16]),
        unet(32, &[1, 2], 2, &[16, 8]),
    );
    let [cifar, small] = [cifar, small].map(NetworkConfig::Unet);
    for (network, shape, classes, [forward, backward]) in [
        (dit([2, 96, 4, 4], 4.0, th), vec![1, 8, 8], 10, DIGITS),
        (dit([4, 384, 12, 6], 4.0, th), vec![4, 32, 32], 1000, S4),
        (dit([2, 768, 12, 12], 4.0, th), vec![4, 32, 32], 1000, B2),
        (cifar, vec![3, 32, 32], 10, CIFAR),
        (small, vec![3, 16, 16], 10, SMALL),
    ] {
        let work = flops(network, &shape, classes);
        assert_eq!(work.forward(), forward);
        // Products need no recomputation of the scores: two and not two and a half times the forward.
        let ours = work.backward() - work.attention as f64;
        // PyTorch leaves out gradients of the network's input, of times, and of the fixed filters of resampling.
        assert!((ours / backward - 1.0).abs() < 0.01, "{ours} {backward}");
        assert!(ours >= backward, "{ours} {backward}");
    }
}

#[test]
fn an_augmentation_costs_its_product() {
    let told = |augment| {
        let config = UnetConfig {
            augment,
            ..unet(32, &[1, 2], 2, &[8])
        };
        flops(NetworkConfig::Unet(config), &[3, 16, 16], 0).forward()
    };
    // Six numbers to those of two embedded times, a multiplication and an addition each.
    assert_eq!(told(6) - told(0), f64::from(2 * 6 * (2 * 64)));
}

/// A perceptron is small enough to count by hand.
#[test]
fn a_perceptron_costs_the_sum_of_its_matrices() {
    let network = mlp([10, 3], TimeEmbedding::H);
    let work = flops(network, &[2], 0);
    let matrices = 18 * 10 + (256 * 10 + 10 * 10) + 3 * 3 * 100 + 10 * 2;
    assert_eq!((work.maps, work.attention), (matrices, 0));
    assert_eq!(work.forward(), 2.0 * matrices as f64);
    assert_eq!(work.derivative(JvpMethod::Dual), work.forward());
}

const DIGITS: [f64; 2] = [15_187_968.0, 30_265_344.0];
const S4: [f64; 2] = [2_822_504_448.0, 5_641_469_952.0];
const B2: [f64; 2] = [46_005_485_568.0, 92_003_893_248.0];
const CIFAR: [f64; 2] = [42_391_306_240.0, 84_765_048_832.0];
const SMALL: [f64; 2] = [236_273_664.0, 471_711_744.0];
