//! Compares samples of a model with data: Fréchet and kernel distance over pixels, precision and recall.
//!
//! `cargo run --release -p meanflow-eval --example evaluate`. The network has learnt nothing; one that has comes from
//! `Model::load`.

use std::error::Error;

use meanflow_core::Schedule;
use meanflow_data::{Dataset, digits};
use meanflow_eval::{
    EvalConfig, EvalError, Evaluation, Extractor, MetricId, Pixels, ReferenceFacts,
    ReferenceFeatures, SampleBatch, pictures,
};
use meanflow_torch::layers::TimeEmbedding;
use meanflow_torch::networks::{DitConfig, NetworkConfig};
use meanflow_torch::sampler::{Request, sample, uniform_grid};
use meanflow_torch::{Device, Kind, Model, ModelConfig, Prediction};

const SHAPE: [usize; 3] = [1, 8, 8];
const SAMPLES: u64 = 200;

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    let (data, model) = (digits::load()?, model()?);
    let facts = ReferenceFacts::Pictures(data.len() as u64);
    let evaluation = Evaluation::new(&Pixels, SHAPE, facts, EvalConfig::new(SAMPLES, 0))?;
    for omitted in evaluation.omitted() {
        println!("not computed: {omitted:?}");
    }
    let reference =
        ReferenceFeatures::of_pictures(&data, &Pixels, evaluation.needs_statistics(), |_| {})?;
    // Samples are drawn in chunks, and only what the metrics keep of them stays in memory.
    let draw = |seeds: std::ops::Range<u64>| {
        let seeds: Vec<u64> = seeds.collect();
        let request = Request {
            seeds: &seeds,
            labels: None,
            grid: &uniform_grid(1),
            batch_size: 64,
        };
        let samples = Vec::<f32>::try_from(sample(&model, &request)?.flatten(0, -1)).expect("f32");
        Ok::<_, EvalError>(SampleBatch {
            pictures: pictures::to_bytes(&samples, &SHAPE),
            labels: None,
            nfe: seeds.len() as u64,
        })
    };
    let state = evaluation.collect(&SHAPE, 0..SAMPLES, draw, |_| {})?;
    let result = evaluation.compute(&state, &reference)?;
    for (metric, value) in &result.values {
        println!("{}: {value:.4}", metric.key(&Pixels.features()));
    }
    // Noise is far from digits: of 64 pixels in [−1, 1] the means alone differ by more than one in square.
    assert!(result.values[&MetricId::FrechetDistance] > 1.0);
    Ok(())
}

fn model() -> Result<Model, Box<dyn Error>> {
    let config = ModelConfig {
        network: NetworkConfig::Dit(DitConfig {
            patch: 2,
            width: 16,
            depth: 1,
            heads: 1,
            mlp_ratio: 2.0,
            embedding: TimeEmbedding::TH,
        }),
        shape: SHAPE.map(|side| side as i64).to_vec(),
        classes: 0,
        schedule: Schedule::Linear,
        prediction: Prediction::Velocity,
    };
    Ok(Model::new(config, 0, Device::Cpu, Kind::Float)?)
}
