//! A sample depends on its seed, its class, the grid and the weights, and on nothing else.

use meanflow_core::solver::{EULER, integrate};
use meanflow_core::{Schedule, State};
use meanflow_testing::networks::dit;
use meanflow_testing::{dit_model, mlp_model, normal, random_model, randomise, relative};
use meanflow_torch::layers::TimeEmbedding;

use meanflow_torch::sampler::{Request, noise, sample, uniform_grid};
use meanflow_torch::{Device, Kind, Model, ModelConfig, Rows, Tensor};

fn float_model() -> Model {
    let config = dit_model(TimeEmbedding::TH, 10).config().clone();
    let model = Model::new(config, 0, Device::Cpu, Kind::Float).unwrap();
    randomise(&model);
    model
}

#[test]
fn noise_does_not_depend_on_the_number_of_threads() {
    let seeds: Vec<u64> = (0..101).collect();
    let with = |threads| {
        tch::set_num_threads(threads);
        noise(&seeds, &[4, 16, 16])
    };
    let one = with(1);
    // 101 rows of 1024 numbers: three shares of unequal size.
    assert_eq!(with(8), one);
    assert_eq!(noise(&[7], &[4, 16, 16]), one.narrow(0, 7, 1));
    assert_eq!(noise(&[], &[2]).size(), [0, 2]);
}

#[test]
fn neither_number_nor_order_of_seeds_changes_a_bit() {
    let model = float_model();
    let grid = uniform_grid(2);
    let seeds: Vec<u64> = (0..41).map(|index| index * index * 31).collect();
    let class = |seed: u64| (seed % 11) as i64;
    let draw = |seeds: &[u64]| {
        let labels: Vec<i64> = seeds.iter().map(|seed| class(*seed)).collect();
        sample(
            &model,
            &Request {
                seeds,
                labels: Some(&labels),
                grid: &grid,
                batch_size: 16,
            },
        )
        .unwrap()
    };
    let all = draw(&seeds);
    let reversed: Vec<u64> = seeds.iter().rev().copied().collect();
    assert_eq!(draw(&reversed).flip([0]), all);
    for count in [1, 3, 16, 17] {
        assert_eq!(
            draw(&seeds[5..5 + count]),
            all.narrow(0, 5, count as i64),
            "{count} seeds"
        );
    }
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    // Wide enough for libtorch and oneDNN to share out an operation.
    let config = ModelConfig {
        network: dit([2, 192, 2, 4], 4.0, TimeEmbedding::TH),
        shape: vec![3, 8, 8],
        ..float_model().config().clone()
    };
    let model = Model::new(config, 0, Device::Cpu, Kind::Float).unwrap();
    randomise(&model);
    let seeds: Vec<u64> = (0..40).collect();
    let draw = |threads, seeds: &[u64]| {
        tch::set_num_threads(threads);
        let request = Request {
            seeds,
            labels: None,
            grid: &uniform_grid(1),
            batch_size: 16,
        };
        sample(&model, &request).unwrap()
    };
    let one = draw(1, &seeds);
    for threads in [2, 3, 7] {
        // Three evaluations, each on a thread of its own, on two or on one; and a single one, which all threads share.
        assert_eq!(draw(threads, &seeds), one, "{threads} threads");
        assert_eq!(draw(threads, &seeds[..16]), one.narrow(0, 0, 16));
    }
    tch::set_num_threads(1);
}

#[test]
fn noise_is_a_function_of_the_seed() {
    let together = noise(&[5, 6, 7], &[2, 3]);
    for (row, seed) in [5, 6, 7].into_iter().enumerate() {
        assert_eq!(noise(&[seed], &[2, 3]), together.narrow(0, row as i64, 1));
    }
    let many = noise(&(0..4000).collect::<Vec<_>>(), &[16]);
    // 64,000 values: mean and variance have standard errors of 0.004 and 0.006.
    assert!(many.mean(Kind::Double).double_value(&[]).abs() < 0.02);
    assert!((many.square().mean(Kind::Double).double_value(&[]) - 1.0).abs() < 0.03);
}

#[test]
fn one_step_is_the_jump_from_noise() {
    let model = mlp_model(TimeEmbedding::TH, 0);
    let seeds = [1, 2, 3];
    let drawn = sample(
        &model,
        &Request {
            seeds: &seeds,
            labels: None,
            grid: &uniform_grid(1),
            batch_size: 3,
        },
    )
    .unwrap();
    let e = noise(&seeds, &[2]).to_kind(Kind::Double);
    let by_hand = &e - model.predict(&e, &[0.0; 3], &[1.0; 3], None);
    assert!(
        relative(&drawn.to_kind(Kind::Double), &by_hand) < 1e-6,
        "rounded to f32 at the end"
    );
}

#[test]
fn the_prior_is_scaled_by_the_schedule() {
    let schedule = Schedule::VariancePreserving {
        beta_min: 0.1,
        beta_max: 20.0,
    };
    let config = ModelConfig {
        schedule,
        ..mlp_model(TimeEmbedding::TH, 0).config().clone()
    };
    let model = Model::new(config, 0, Device::Cpu, Kind::Double).unwrap();
    let last = model.parameters().get("last.weight").unwrap();
    let _ = tch::no_grad(|| last.shallow_clone().zero_());
    let drawn = sample(
        &model,
        &Request {
            seeds: &[4],
            labels: None,
            grid: &uniform_grid(3),
            batch_size: 1,
        },
    )
    .unwrap();
    let expected = noise(&[4], &[2]) * schedule.prior_scale();
    assert!(
        relative(&drawn, &expected) < 1e-6,
        "with u = 0 nothing moves"
    );
}

fn refused(model: &Model, seeds: &[u64], labels: Option<&[i64]>, grid: &[f64], message: &str) {
    let request = Request {
        seeds,
        labels,
        grid,
        batch_size: 4,
    };
    let error = sample(model, &request).unwrap_err().to_string();
    assert!(error.contains(message), "{error}");
}

#[test]
fn a_grid_that_does_not_decrease_from_1_to_0_is_refused() {
    let model = mlp_model(TimeEmbedding::TH, 0);
    for grid in [
        vec![],
        vec![1.0],
        vec![0.0, 1.0],
        vec![1.0, 0.5],
        vec![1.0, 1.0, 0.0],
        vec![1.0, f64::NAN, 0.0],
    ] {
        refused(&model, &[1], None, &grid, "decrease from 1 to 0");
    }
}

#[test]
fn labels_that_the_model_does_not_know_are_refused() {
    let (conditional, unconditional) = (
        dit_model(TimeEmbedding::TH, 10),
        mlp_model(TimeEmbedding::TH, 0),
    );
    let grid = uniform_grid(1);
    refused(&unconditional, &[], None, &grid, "at least one seed");
    refused(&unconditional, &[1], Some(&[0]), &grid, "unconditional");
    let two = "2 classes of 0..=10";
    refused(&conditional, &[1, 2], Some(&[0]), &grid, two);
    for label in [11, -1] {
        let one = "1 classes of 0..=10";
        refused(&conditional, &[1], Some(&[label]), &grid, one);
    }
}

#[test]
fn batches_of_tensors_are_a_state() {
    let (x, y) = (normal(1, &[3, 2, 2]), normal(2, &[3, 2, 2]));
    let (a, b) = ([1.0, 2.0, -0.5], [0.5, 0.5, 0.5]);
    let combined = Rows::combine(&[
        (&a, &Rows(x.shallow_clone())),
        (&b, &Rows(y.shallow_clone())),
    ])
    .0;
    for row in 0..3 {
        let by_hand = x.get(row) * a[row as usize] + y.get(row) * b[row as usize];
        assert!(relative(&combined.get(row), &by_hand) < 1e-15);
    }
    // dz/dt = −z from 0 to 1 by 4 Euler steps: (1 − 1/4)⁴.
    let grid: Vec<f64> = (0..=4).map(|k| f64::from(k) / 4.0).collect();
    let decayed = integrate(
        &EULER,
        |z: &Rows, _| Rows(z.0.neg()),
        Rows(x.shallow_clone()),
        &grid,
    );
    assert!(relative(&decayed.0, &(&x * 0.75_f64.powi(4))) < 1e-14);
}

#[test]
fn the_same_seed_gives_the_same_model() {
    let config = random_model(
        dit_model(TimeEmbedding::TH, 0).config().network.clone(),
        &[3, 4, 6],
        0,
    )
    .config()
    .clone();
    let model = |seed| Model::new(config.clone(), seed, Device::Cpu, Kind::Float).unwrap();
    assert_eq!(model(1).parameters().named(), model(1).parameters().named());
    assert_ne!(model(1).parameters().named(), model(2).parameters().named());
    let twin = model(1);
    let average = twin.twin();
    assert_eq!(average.parameters().named(), twin.parameters().named());
    assert!(
        average
            .parameters()
            .iter()
            .all(|(_, tensor)| !tensor.requires_grad())
    );
    let update = |is_finite: bool| {
        let (weight, is_finite) = (Tensor::from(0.25_f32), Tensor::from(is_finite));
        let (average, current) = (average.parameters(), model(2));
        meanflow_torch::ema::update(average, current.parameters(), &weight, &is_finite).unwrap();
    };
    update(false);
    assert_eq!(average.parameters().named(), twin.parameters().named());
    update(true);
    for (((_, e), (_, p)), (_, q)) in average
        .parameters()
        .iter()
        .zip(twin.parameters().iter())
        .zip(model(2).parameters().iter())
    {
        // One rounding of f32.
        assert!((e - (p * 0.75 + q * 0.25)).abs().max().double_value(&[]) < 1e-7);
    }
}
