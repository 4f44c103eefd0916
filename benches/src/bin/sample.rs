//! The rival of this project in `cargo xtask bench sample`: samples in one evaluation, on demand.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::{Path, PathBuf};

use benches::{Options, milliseconds, proof, protocol, timed};
use clap::Parser;
use meanflow_torch::sampler::{self, Request};
use meanflow_torch::{Kind, Model, Tensor, TorchError, memory, weights};
use serde_json::{Value, json};

/// Samples with pictures that the peers must draw too.
const PROVED: u64 = 8;

#[derive(Parser)]
struct SampleOptions {
    #[command(flatten)]
    options: Options,
    /// With `--export`, the same weights as a file that `meanflow sample` reads.
    #[arg(long, value_name = "FILE", requires = "export")]
    save: Option<PathBuf>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let args = SampleOptions::parse();
    memory::keep();
    let device = args.options.device()?;
    let model = Model::new(args.options.size()?.model(), 0, device, Kind::Float)?;
    proof::randomise(&model);
    if let Some(file) = &args.options.export {
        export(&model, file)?;
        if let Some(file) = &args.save {
            model.save(file, BTreeMap::new())?;
        }
        return Ok(());
    }
    Ok(protocol::serve(|line| answer(&model, line))?)
}

/// Writes `weight.NAME` of every parameter, `noise` and `samples [B, …]` and int64 `labels [B]`.
fn export(model: &Model, file: &Path) -> Result<(), TorchError> {
    let seeds: Vec<u64> = (0..PROVED).collect();
    let mut tensors: Vec<(String, Tensor)> = model
        .parameters()
        .named()
        .into_iter()
        .map(|(name, tensor)| (format!("weight.{name}"), tensor.detach()))
        .collect();
    let labels = Tensor::from_slice(&labels(model, &seeds));
    tensors.push(("labels".into(), labels));
    let noise = sampler::noise(&seeds, &model.config().shape);
    tensors.push(("noise".into(), noise));
    tensors.push(("samples".into(), draw(model, &seeds)?));
    weights::save(file, &tensors, BTreeMap::new())
}

/// Answers `run ours_ROWS`.
fn answer(model: &Model, line: &str) -> Result<Value, Box<dyn Error>> {
    let rows = line.strip_prefix("run ours_").map(str::parse::<u64>);
    let Some(Ok(rows @ 1..)) = rows else {
        return Err(format!("unknown line {line:?}").into());
    };
    let seeds: Vec<u64> = (0..rows).collect();
    let before = model.passes();
    // The samples are on the host when this returns.
    let (_, time) = timed(model.device(), || draw(model, &seeds))?;
    let units = model.passes().since(before).units(seeds.len());
    Ok(json!({ "ms": milliseconds(time), "peak_mib": null, "units": units }))
}

/// One sample a seed, in one evaluation.
fn draw(model: &Model, seeds: &[u64]) -> Result<Tensor, TorchError> {
    let request = Request {
        seeds,
        labels: Some(&labels(model, seeds)),
        grid: &sampler::uniform_grid(1),
        batch_size: seeds.len(),
    };
    sampler::sample(model, &request)
}

fn labels(model: &Model, seeds: &[u64]) -> Vec<i64> {
    let classes = model.config().classes;
    seeds.iter().map(|seed| *seed as i64 % classes).collect()
}
