//! Ten steps of training on the handwritten digits, without a run folder, and a sample of what was learnt.
//!
//! `cargo run --release -p meanflow-train --example ten_steps`

use std::error::Error;
use std::path::Path;

use meanflow_torch::Device;
use meanflow_train::{TrainConfig, Trainer};

const RECIPE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../configs/digits.toml");

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    let small = [
        "network.width=32",
        "network.depth=2",
        "training.batch_size=64",
    ];
    let config = TrainConfig::read(Path::new(RECIPE), &small.map(str::to_owned))?;
    let data = config.data.load(config.seed)?;
    let mut trainer = Trainer::new(config, data, Device::Cpu)?;
    let mut v_losses = Vec::new();
    for _ in 0..10 {
        let metrics = trainer.step()?;
        println!(
            "step {:2}: v_loss {:.2}, lr {:.1e}",
            metrics.step, metrics.v_loss, metrics.lr
        );
        v_losses.push(metrics.v_loss);
    }
    assert!(
        v_losses[9] < v_losses[0],
        "ten steps are enough to learn something"
    );
    let drawn = &trainer.samples()?[0];
    println!("{drawn:?}");
    Ok(())
}
