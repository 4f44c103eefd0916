//! Every path from data to noise, end to end: a small network is trained on it, and its samples have the law of the data.

use meanflow_cfg::Guidance;
use meanflow_core::random::{Purpose, RngStream};
use meanflow_core::solver::HEUN;
use meanflow_core::{MaskOrder, MeanFlowRatio, Schedule, TimeDistribution, TimeSampler};
use meanflow_testing::networks::mlp;
use meanflow_testing::{config, objective};
use meanflow_torch::layers::TimeEmbedding;
use meanflow_torch::sampler::{Ode, Request, Solver, cosine_grid, sample_by, uniform_grid};
use meanflow_torch::{
    Adam, AdamConfig, Batch, Device, Gradients, Kind, Model, ModelConfig, Objective, Prediction,
    Tensor, ema,
};

/// Mean and standard deviation of the two coordinates of the data.
const DATA: [(f64, f64); 2] = [(1.0, 0.5), (-0.5, 1.5)];
const ROWS: usize = 256;
const STEPS: u64 = 800;

#[test]
fn linear() {
    the_samples_have_the_law_of_the_data(Schedule::Linear, Prediction::Velocity);
}

#[test]
fn linear_where_the_network_predicts_the_data() {
    the_samples_have_the_law_of_the_data(Schedule::Linear, Prediction::Data);
}

#[test]
fn polynomial() {
    the_samples_have_the_law_of_the_data(
        Schedule::Polynomial { degree: 2.0 },
        Prediction::Velocity,
    );
}

#[test]
fn cosine() {
    the_samples_have_the_law_of_the_data(Schedule::Cosine, Prediction::Velocity);
}

#[test]
fn variance_preserving() {
    the_samples_have_the_law_of_the_data(
        Schedule::VariancePreserving {
            beta_min: 0.1,
            beta_max: 20.0,
        },
        Prediction::Velocity,
    );
}

fn the_samples_have_the_law_of_the_data(schedule: Schedule, prediction: Prediction) {
    tch::set_num_threads(1);
    let model = trained(schedule, prediction);
    for (grid, solver) in [
        (uniform_grid(1), Solver::Jump),
        (uniform_grid(2), Solver::Jump),
        (cosine_grid(4), Solver::Jump),
        (cosine_grid(8), Solver::Ode(Ode::Fixed(&HEUN))),
    ] {
        let seeds: Vec<u64> = (0..4096).collect();
        let request = Request {
            seeds: &seeds,
            labels: None,
            grid: &grid,
            batch_size: 1024,
        };
        let drawn = sample_by(&model, &request, solver).unwrap().samples;
        for (axis, (mean, std)) in DATA.into_iter().enumerate() {
            let values = drawn.select(1, axis as i64);
            let (got_mean, got_std) = (
                values.mean(None::<Kind>).double_value(&[]),
                values.std(true).double_value(&[]),
            );
            let got = format!("{grid:?}, {axis}: {got_mean} ± {got_std}");
            // So short a training is off by up to 0.09 and 12 %; noise has mean 0 and deviation 1.
            assert!((got_mean - mean).abs() < 0.15, "{got}");
            assert!((got_std / std - 1.0).abs() < 0.2, "{got}");
        }
    }
}

/// The average of the weights of a perceptron trained on the path.
fn trained(schedule: Schedule, prediction: Prediction) -> Model {
    let config = ModelConfig {
        schedule,
        prediction,
        ..config(mlp([32, 2], TimeEmbedding::TH), &[2], 0)
    };
    let model = Model::new(config, 1, Device::Cpu, Kind::Float).unwrap();
    let objective = Objective {
        schedule,
        ..objective(Guidance::NONE)
    };
    let mut adam = Adam::new(model.parameters(), AdamConfig::PUBLISHED);
    let average = model.twin();
    let weight = Tensor::from(1.0_f32 - 0.98);
    for step in 0..STEPS {
        objective
            .loss(&model, &points(step))
            .unwrap()
            .loss
            .backward();
        let left = 1.0 - step as f64 / STEPS as f64;
        adam.set_lr(1e-2 * left);
        let gradients = Gradients::take(model.parameters()).unwrap();
        let is_finite = gradients.is_finite();
        adam.step(&gradients, &is_finite).unwrap();
        let current = model.parameters();
        ema::update(average.parameters(), current, &weight, &is_finite).unwrap();
    }
    average
}

/// A batch of the Gaussian.
fn points(step: u64) -> Batch {
    let normal = |purpose| {
        let mut values = vec![0.0_f32; 2 * ROWS];
        RngStream::new(0, purpose, step).fill_normal(&mut values);
        Tensor::from_slice(&values).reshape([ROWS as i64, 2])
    };
    let of = |part: fn((f64, f64)) -> f64| Tensor::from_slice(&DATA.map(part)).to_kind(Kind::Float);
    let law = TimeSampler {
        t: TimeDistribution::Uniform,
        r: None,
        mean_flow_ratio: MeanFlowRatio::Count(0.5),
        order: MaskOrder::AfterOrdering,
    };
    Batch {
        data: normal(Purpose::Data) * of(|(_, std)| std) + of(|(mean, _)| mean),
        noise: normal(Purpose::Noise),
        labels: None,
        times: law.draw(ROWS, &mut RngStream::new(0, Purpose::Times, step)),
        dropped: vec![false; ROWS],
        augment: None,
        dropout: None,
    }
}
