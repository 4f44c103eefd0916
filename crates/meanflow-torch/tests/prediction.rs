//! A network that predicts the data: the average velocity made of it, its derivative, its files, and what is refused.

use std::collections::BTreeMap;

use meanflow_core::Schedule;
use meanflow_testing::{dit_model, normal, randomise, relative};
use meanflow_torch::convert::{Layout, export};
use meanflow_torch::layers::TimeEmbedding;
use meanflow_torch::sampler::{Request, noise, sample, uniform_grid};
use meanflow_torch::{
    Conditioning, Device, JvpInputs, JvpMethod, Kind, MODEL_KEY, Model, ModelConfig, Prediction,
    Tensor,
};

/// Times of five rows: both ends, both sides of the least time that divides, and r = t.
const T: [f64; 5] = [1.0, 0.6, 0.3, 0.02, 0.0];
const R: [f64; 5] = [0.0, 0.2, 0.3, 0.01, 0.0];

/// A transformer in f64 that predicts the velocity, and one of the same weights that predicts the data.
fn twins() -> [Model; 2] {
    let velocity = dit_model(TimeEmbedding::TH, 10);
    let config = ModelConfig {
        prediction: Prediction::Data,
        ..velocity.config().clone()
    };
    let data = Model::new(config, 7, Device::Cpu, Kind::Double).unwrap();
    randomise(&data);
    [velocity, data]
}

#[test]
fn the_velocity_leads_from_the_state_to_the_prediction() {
    let [velocity, data] = twins();
    let z = normal(3, &[5, 3, 4, 6]);
    let x = velocity.predict(&z, &R, &T, None);
    let u = data.predict(&z, &R, &T, None);
    for (row, t) in T.into_iter().enumerate() {
        let [z, x, u] = [&z, &x, &u].map(|all| all.get(row as i64));
        // One division and one product.
        assert!(relative(&(&z - u * t.max(0.05)), &x) < 1e-13, "t = {t}");
    }
}

#[test]
fn a_sample_of_one_step_is_the_prediction() {
    let [velocity, data] = twins();
    let seeds = [0, 1, 2];
    let request = Request {
        seeds: &seeds,
        labels: Some(&[0, 4, 9]),
        grid: &uniform_grid(1),
        batch_size: 3,
    };
    let z = noise(&seeds, &data.config().shape).to_kind(Kind::Double);
    let x = velocity.predict(&z, &[0.0; 3], &[1.0; 3], request.labels);
    let drawn = sample(&data, &request).unwrap().to_kind(Kind::Double);
    // Samples are handed out in f32.
    assert!(relative(&drawn, &x) < 1e-6);
}

#[test]
fn every_route_has_the_same_derivative() {
    let [_, data] = twins();
    for k in [5, 2] {
        let point = JvpInputs {
            z: normal(3, &[5, 3, 4, 6]),
            r: Tensor::from_slice(&R),
            t: Tensor::from_slice(&T),
            condition: Conditioning::of_labels(Some(Tensor::from_slice(&[0_i64, 1, 2, 3, 10]))),
            velocity: normal(4, &[k, 3, 4, 6]),
        };
        let (_, dual) = JvpMethod::Dual.evaluate(&data, &point).unwrap();
        // Rounding of f64 through a few dozen operations; the difference quotient has 1e-5² and 1e-16/1e-5, times 1/0.05.
        for (method, tolerance) in [
            (JvpMethod::ForwardAd, 1e-10),
            (JvpMethod::DoubleBackward, 1e-10),
            (JvpMethod::FiniteDifference { step: 1e-5 }, 1e-6),
        ] {
            let (_, other) = method.evaluate(&data, &point).unwrap();
            assert!(relative(&other, &dual) < tolerance, "{method:?} {k}");
        }
    }
}

#[test]
fn files_say_what_is_predicted_and_stay_as_they_were_where_it_is_the_velocity() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let [velocity, data] = twins().map(|twin| {
        let model = Model::new(twin.config().clone(), 0, Device::Cpu, Kind::Float).unwrap();
        model.save(&path, BTreeMap::new()).unwrap();
        let (again, metadata) = Model::load(&path, Device::Cpu).unwrap();
        assert_eq!(again.config(), twin.config());
        metadata[MODEL_KEY].clone()
    });
    assert!(data.contains(r#""prediction":"x""#), "{data}");
    assert!(!velocity.contains("prediction"), "{velocity}");
}

#[test]
fn another_path_and_official_layouts_are_refused() {
    let [velocity, data] = twins();
    let curved = ModelConfig {
        schedule: Schedule::Cosine,
        ..data.config().clone()
    };
    let refused = curved.validate().unwrap_err().to_string();
    assert!(refused.contains("prediction: expected \"u\""), "{refused}");
    for layout in [Layout::Flax, Layout::PyTorch] {
        assert!(export(&velocity, layout).is_ok());
        let refused = export(&data, layout).unwrap_err().to_string();
        assert!(refused.contains("prediction: expected \"u\""), "{refused}");
    }
}
