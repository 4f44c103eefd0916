//! One run of `cargo xtask ablate`: trains a recipe, then draws as many samples as there are data, at one and two steps.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Parser;
use meanflow_data::npz;
use meanflow_torch::{Device, Model, Tangent};
use meanflow_train::{Samples, TrainConfig, TrainError, Trainer};
use serde_json::{Value, json};

/// Network evaluations a sample.
const STEPS: [usize; 2] = [1, 2];

/// Trains a variant of a recipe and draws samples.
#[derive(Parser)]
struct AblationOptions {
    /// The recipe that is varied.
    recipe: PathBuf,
    /// A change to it: KEY=VALUE; may be given several times.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    overrides: Vec<String>,
    /// Differentiate along (v, DR, DT) instead of (v, 0, 1).
    #[arg(long, num_args = 2, value_names = ["DR", "DT"], allow_negative_numbers = true)]
    wrong_direction: Option<Vec<f64>>,
    /// The folder for `steps-1.npz` and `steps-2.npz`.
    #[arg(long)]
    out: PathBuf,
}

fn main() -> Result<(), Box<dyn Error>> {
    let args = AblationOptions::parse();
    let config = TrainConfig::read(&args.recipe, &args.overrides)?;
    let direction = match args.wrong_direction.as_deref() {
        Some(&[dr, dt]) => Tangent::wrong(dr, dt),
        _ => Tangent::TRAJECTORY,
    };
    println!("{}", ablate(config, direction, &args.out)?);
    Ok(())
}

/// Trains and draws; says how many steps were done and how long they took.
fn ablate(config: TrainConfig, direction: Tangent, folder: &Path) -> Result<Value, Box<dyn Error>> {
    // Small work is done fastest by runs side by side, each on a thread; so the number of processors shows in no result.
    tch::set_num_threads(1);
    let data = config.data.load(config.seed)?;
    let labels = data.labels().to_vec();
    let steps = config.training.steps.get();
    let mut trainer = Trainer::new(config, data, Device::Cpu)?;
    let start = Instant::now();
    while trainer.steps_done() < steps {
        match trainer.step_along(direction) {
            // A wrong variant may diverge; what it had learnt until then is its result.
            Err(TrainError::NotFinite { .. }) => break,
            result => result.map(drop)?,
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    draw(trainer.average().0, &labels, folder)?;
    Ok(json!({ "steps": trainer.steps_done(), "seconds": seconds }))
}

/// Sample `i` has seed `i` and the class of picture `i` of the data.
fn draw(model: &Model, labels: &[i64], folder: &Path) -> Result<(), Box<dyn Error>> {
    let seeds: Vec<u64> = (0..labels.len() as u64).collect();
    for steps in STEPS {
        let samples = Samples::draw(model, &seeds, Some(labels), steps)?;
        let file = folder.join(format!("steps-{steps}.npz"));
        npz::write_samples(&file, &samples.pictures()?, labels)?;
    }
    Ok(())
}
