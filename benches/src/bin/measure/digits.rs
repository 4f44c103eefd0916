//! The accuracy of a run on the digits, with the classifier that the program carries.

use std::error::Error;
use std::path::PathBuf;
use std::time::Instant;

use benches::protocol::tell;
use meanflow_eval::{Extractor, digits_classifier};
use meanflow_torch::sampler::{self, Request};
use meanflow_torch::{Device, Kind, Model, Tensor, device};
use serde_json::json;

#[derive(clap::Args)]
pub(crate) struct Digits {
    /// cpu or cuda.
    #[arg(long, default_value = "cpu")]
    device: String,
    /// Samples, each in one evaluation.
    #[arg(long, default_value_t = 1797)]
    samples: u64,
    /// The weights file of the run.
    weights: PathBuf,
}

/// Rows of an evaluation.
const ROWS: usize = 256;

pub(crate) fn run(args: &Digits) -> Result<(), Box<dyn Error>> {
    let device = device::open(&args.device)?;
    let (model, _) = Model::load(&args.weights, device)?;
    let seeds: Vec<u64> = (0..args.samples).collect();
    let labels: Vec<i64> = seeds.iter().map(|seed| (*seed % 10) as i64).collect();
    let request = Request {
        seeds: &seeds,
        labels: Some(&labels),
        grid: &sampler::uniform_grid(1),
        batch_size: ROWS,
    };
    let start = Instant::now();
    let samples = sampler::sample(&model, &request)?.to_device(Device::Cpu);
    let seconds = start.elapsed().as_secs_f64();
    let pictures = ((samples + 1.0) * 127.5).round().clamp(0.0, 255.0);
    let pictures = pictures.to_kind(Kind::Uint8).reshape([-1, 1, 8, 8]);
    let logits = digits_classifier(Device::Cpu)?.extract(&pictures)?.logits;
    let logits = logits.ok_or("the classifier gave no logits")?;
    let right = logits
        .argmax(1, false)
        .eq_tensor(&Tensor::from_slice(&labels));
    let right = right.sum(Kind::Int64).int64_value(&[]);
    Ok(tell(json!({
        "samples": args.samples,
        "class_accuracy": right as f64 / args.samples as f64,
        "samples_per_second": args.samples as f64 / seconds,
    }))?)
}
