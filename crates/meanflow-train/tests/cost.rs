//! What a recipe is said to cost against what its training needs.

use std::path::Path;

use meanflow_torch::{Device, memory};
use meanflow_train::{Cost, TrainConfig, Trainer};

fn recipe(name: &str, changes: &[&str]) -> TrainConfig {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs");
    let changes: Vec<String> = changes.iter().map(|&change| change.to_owned()).collect();
    TrainConfig::read(&path.join(name), &changes).unwrap()
}

fn cost(config: &TrainConfig) -> Cost {
    let data = config.data.facts(config.seed).unwrap();
    let model = config.model(&data.shape, data.classes).unwrap();
    config.cost(&model).unwrap()
}

/// Operations of a step in forwards.
fn units(config: &TrainConfig) -> f64 {
    let cost = cost(config);
    cost.training / cost.forward
}

#[test]
fn a_perceptron_takes_three_forwards_and_one_a_jump_row() {
    for (share, forwards) in [("0.0", 3.0), ("0.25", 3.25), ("1.0", 4.0)] {
        let share = format!("times.mean_flow_ratio.count={share}");
        let config = recipe("checkerboard.toml", &[&share]);
        // Rounding of a few operations.
        assert!((units(&config) - forwards).abs() < 1e-12);
    }
}

#[test]
fn guidance_adds_the_forwards_that_its_plan_asks_for() {
    let at = |omega: &str, kappa: &str| {
        let guidance =
            format!("guidance={{ omega = {omega}, kappa = {kappa}, interval = [0.0, 1.0] }}");
        let jumps = "times.mean_flow_ratio = { count = 0.25 }";
        // So a row that is masked as one with r < t is one.
        let order = "times.order=after-ordering";
        units(&recipe("digits.toml", &[&guidance, jumps, order]))
    };
    let none = at("1.0", "0.0");
    // 90 % of the labels are kept, over 12800 draws to within four deviations, 0.011. With κ = 0 each asks for the null class; with
    // κ > 0 also, in a quarter of the rows, for its own.
    assert!((at("2.0", "0.0") - none - 0.9).abs() < 0.011);
    assert!((at("1.0", "0.5") - none - 1.25 * 0.9).abs() < 0.014);
    // ω = 1 − κ needs no null class.
    assert!((at("0.5", "0.5") - none - 0.25 * 0.9).abs() < 0.006);
}

#[test]
fn parts_divide_the_activations_only() {
    let [whole, parts] = ["training.microbatches=1", "training.microbatches=4"]
        .map(|parts| cost(&recipe("imagenet256-xl2.toml", &[parts])));
    assert_eq!(whole.training, parts.training);
    assert_eq!(whole.memory.activations, 4 * parts.memory.activations);
    let rest = whole.memory.total() - whole.memory.activations;
    assert_eq!(rest, parts.memory.total() - parts.memory.activations);
}

/// MiB of a plain step above what was held before it, on an H200: docs/src/gpu-h200.md. f32 is as TF32 there.
const MEASURED: [(&str, &str, &str, f64); 7] = [
    ("imagenet256-b4.toml", "256", "f32", 10794.0),
    ("imagenet256-b4.toml", "256", "bf16", 6292.0),
    ("imagenet256-b2.toml", "128", "f32", 21426.0),
    ("imagenet256-b2.toml", "128", "bf16", 12150.0),
    ("imagenet256-xl2.toml", "32", "bf16", 11562.0),
    ("cifar10-v0.toml", "128", "f32", 15286.0),
    ("cifar10-v0.toml", "128", "bf16", 13604.0),
];

#[test]
fn steps_of_a_gpu_took_what_is_estimated() {
    for (name, rows, dtype, measured) in MEASURED {
        let changes = [
            &format!("training.batch_size={rows}"),
            "training.microbatches=1",
            &format!("compute.dtype={dtype}"),
        ];
        // The network that was measured has no dropout.
        let unet: &[&str] = match name {
            "cifar10-v0.toml" => &["network.dropout=0"],
            _ => &[],
        };
        let config = recipe(name, &[&changes[..], unet].concat());
        let memory = cost(&config).memory;
        // The parameters are there before a step; what they are rounded to is not.
        let estimate = (memory.activations + memory.rounded()) as f64 / f64::from(1 << 20);
        let ratio = estimate / measured;
        println!("{name} {dtype}: {estimate:.0} MiB, measured {measured}, {ratio:.3}");
        assert!((ratio - 1.0).abs() < 0.06, "{name} {dtype}: {estimate}");
    }
}

/// The peak of building a trainer and doing two steps.
fn peak(config: &TrainConfig) -> u64 {
    let train = || {
        let data = config.data.load(config.seed).unwrap();
        let mut trainer = Trainer::new(config.clone(), data, Device::Cpu).unwrap();
        for _ in 0..2 {
            trainer.step().unwrap();
        }
    };
    memory::peak(train).1.expect("Linux tells")
}

#[test]
fn a_training_holds_what_is_estimated() {
    memory::count_live_memory_only();
    // The first pays for what a process loads once.
    peak(&recipe(
        "digits.toml",
        &["network.depth=1", "training.batch_size=8"],
    ));
    for (threads, width, rows, microbatches) in [
        (1, 192, 128, 1),
        (1, 384, 32, 1),
        (2, 192, 128, 2),
        (2, 192, 256, 4),
    ] {
        tch::set_num_threads(threads);
        let changes = [
            "network.depth=2",
            &format!("network.width={width}"),
            &format!("training.batch_size={rows}"),
            &format!("training.microbatches={microbatches}"),
        ];
        let config = recipe("digits.toml", &changes);
        let memory = cost(&config).memory;
        let [one, all] =
            [1, threads as usize].map(|workers| memory.total_of_workers(workers) as f64);
        let peak = peak(&config) as f64;
        // Above the estimate are tangents and the buffers of kernels. Below it, gradients come as activations go, and are given
        // back after a step: 1 % less on one thread when this was written. Threads need not be at their peaks together, so that a
        // step of several may hold as little as one of one thread.
        assert!(
            peak < 1.15 * all && peak > 0.9 * one,
            "{changes:?}: {peak} of {one} to {all}"
        );
        println!("{changes:?}: measured {} times the estimate", peak / all);
    }
}
