//! The states between noise and data: their ends are noise and sample, and jumps and ODE go the same way where they should.

use meanflow_core::Norm;
use meanflow_core::Schedule;
use meanflow_core::solver::HEUN;
use meanflow_testing::{dit_model, mlp_model, normal, randomise, relative};
use meanflow_torch::layers::TimeEmbedding;
use meanflow_torch::sampler::{
    Ode, Request, Solver, cosine_grid, noise, sample_by, trajectory, trajectory_from_noise,
    uniform_grid,
};
use meanflow_torch::{Device, Kind, Model, ModelConfig, Rows, TorchError};

const WAYS: [Solver; 3] = [
    Solver::Jump,
    Solver::Ode(Ode::Fixed(&HEUN)),
    Solver::Ode(Ode::Adaptive(meanflow_core::Tolerance {
        abs: 1e-3,
        rel: 1e-3,
        max_steps: 1000,
    })),
];

/// A small network with a prior whose scale is not 1 where the path says so.
fn model(schedule: Schedule) -> Model {
    let config = ModelConfig {
        schedule,
        ..dit_model(TimeEmbedding::TH, 10).config().clone()
    };
    let model = Model::new(config, 0, Device::Cpu, Kind::Float).unwrap();
    randomise(&model);
    model
}

#[test]
fn a_trajectory_goes_from_the_noise_to_the_sample_bit_for_bit() {
    let vp = Schedule::VariancePreserving {
        beta_min: 0.1,
        beta_max: 20.0,
    };
    for schedule in [Schedule::Linear, vp] {
        let model = model(schedule);
        let (seeds, labels) = ([3, 1, 4, 1, 5], [0, 9, 10, 9, 2]);
        let grid = cosine_grid(3);
        let request = Request {
            seeds: &seeds,
            labels: Some(&labels),
            grid: &grid,
            batch_size: 4,
        };
        for solver in WAYS {
            let way = trajectory(&model, &request, solver).unwrap();
            let drawn = sample_by(&model, &request, solver).unwrap();
            assert_eq!(way.states.size(), [5, 4, 3, 4, 6]);
            assert_eq!(way.states.select(1, 3), drawn.samples, "{solver:?}");
            assert_eq!(way.nfe, drawn.nfe, "{solver:?}");
            let prior = noise(&seeds, &[3, 4, 6]) * model.config().schedule.prior_scale();
            assert_eq!(way.states.select(1, 0), prior);
            // The same seed and class twice: the same way.
            assert_eq!(way.states.get(1), way.states.get(3));
        }
    }
}

#[test]
fn a_trajectory_of_jumps_goes_on_from_any_of_its_states() {
    let model = mlp_model(TimeEmbedding::TH, 0);
    let e = normal(1, &[5, 2]);
    let grid = [1.0, 0.7, 0.4, 0.0];
    let way = trajectory_from_noise(&model, &e, None, &grid, Solver::Jump).unwrap();
    for (place, times) in grid.windows(2).enumerate() {
        let z = way.states.select(1, place as i64);
        let u = model.predict(&z, &[times[1]; 5], &[times[0]; 5], None);
        let next = way.states.select(1, place as i64 + 1);
        // The same product, added in another order.
        assert!(relative(&(z - u * (times[0] - times[1])), &next) < 1e-14);
    }
    assert_eq!(way.nfe, [3; 5]);
}

#[test]
fn a_finer_grid_of_the_ode_passes_the_states_of_a_coarser_one() {
    let model = mlp_model(TimeEmbedding::TH, 0);
    let e = normal(1, &[5, 2]);
    let way = |steps| {
        let heun = Solver::Ode(Ode::Fixed(&HEUN));
        let way = trajectory_from_noise(&model, &e, None, &uniform_grid(steps), heun);
        way.unwrap().states
    };
    let (coarse, fine) = (way(64), way(256));
    let distance = |place: i64| {
        let squares = Rows(coarse.select(1, place) - fine.select(1, 4 * place)).mean_squares();
        squares.into_iter().fold(0.0, f64::max).sqrt()
    };
    // Heun's error at steps of 1/64 is of the order of 64⁻² = 2·10⁻⁴ times third derivatives of order 1 to 10.
    for place in [0, 16, 32, 48, 64] {
        assert!(distance(place) < 5e-3, "{place}: {}", distance(place));
    }
}

#[test]
fn what_is_no_grid_is_refused() {
    let model = mlp_model(TimeEmbedding::TH, 0);
    let e = normal(1, &[1, 2]);
    let refused = trajectory_from_noise(&model, &e, None, &[1.0, 0.5], Solver::Jump);
    assert!(matches!(refused, Err(TorchError::Argument { what, .. }) if what == "grid"));
    let refused = trajectory_from_noise(&model, &e, Some(&[0]), &[1.0, 0.0], Solver::Jump);
    assert!(matches!(refused, Err(TorchError::Argument { what, .. }) if what == "labels"));
}
