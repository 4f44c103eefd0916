//! The ways between noise and data through a network: orders, tolerances, round trips and the samples in between.

use meanflow_core::solver::{EULER, HEUN, RK4};
use meanflow_core::{FixedPoint, Norm, Schedule, Tolerance};
use meanflow_testing::{dit_model, mlp_model, normal, randomise, relative};
use meanflow_torch::layers::TimeEmbedding;
use meanflow_torch::sampler::{
    Interpolation, Ode, Request, Solver, cosine_grid, from_noise, from_noise_by, interpolate,
    invert, invert_flow, noise, sample, sample_by, uniform_grid,
};
use meanflow_torch::{
    Device, Kind, Model, ModelConfig, Rows, Tensor, TorchError, host, squared_norms,
};

const EXACT: Solver = adaptive(1e-12);

const fn adaptive(tolerance: f64) -> Solver {
    Solver::Ode(Ode::Adaptive(Tolerance {
        abs: tolerance,
        rel: 0.0,
        max_steps: 10_000,
    }))
}

/// The perceptron on a path, in the given type, with random parameters and a velocity so gentle that a jump over a
/// quarter of the way contracts, and few steps are many for a solver.
fn perceptron(schedule: Schedule, classes: i64, kind: Kind) -> Model {
    let config = ModelConfig {
        schedule,
        ..mlp_model(TimeEmbedding::TH, classes).config().clone()
    };
    let model = Model::new(config, 3, Device::Cpu, kind).unwrap();
    randomise(&model);
    let last = model.parameters().get("last.weight").unwrap();
    let _ = tch::no_grad(|| last.shallow_clone().g_mul_scalar_(0.2));
    model
}

fn solve(model: &Model, e: &Tensor, grid: &[f64], solver: Solver) -> Tensor {
    from_noise_by(model, e, None, grid, solver).unwrap().samples
}

/// The largest root mean square of a row of `a − b`.
fn distance(a: &Tensor, b: &Tensor) -> f64 {
    let squares = Rows(a - b).mean_squares();
    squares.into_iter().fold(0.0, f64::max).sqrt()
}

#[test]
fn solvers_show_their_order_through_a_network() {
    let model = perceptron(Schedule::Linear, 0, Kind::Double);
    let e = normal(1, &[8, 2]);
    let exact = solve(&model, &e, &uniform_grid(1), EXACT);
    for (method, steps) in [(&EULER, 64), (&HEUN, 32), (&RK4, 16)] {
        for grid in [uniform_grid, cosine_grid] {
            let error = |steps| {
                let end = solve(&model, &e, &grid(steps), Solver::Ode(Ode::Fixed(method)));
                distance(&end, &exact)
            };
            let order = (error(steps) / error(4 * steps)).log2() / 2.0;
            // The next term of the error bends the line; the next order is one away.
            let declared = f64::from(method.order);
            assert!((order - declared).abs() < 0.3, "{}: {order}", method.name);
        }
    }
}

#[test]
fn a_tolerance_is_met_and_costs_what_it_says() {
    let model = perceptron(Schedule::Cosine, 0, Kind::Double);
    let e = normal(1, &[8, 2]);
    let grid = uniform_grid(1);
    let exact = solve(&model, &e, &grid, EXACT);
    let nfe = [1e-3, 1e-5, 1e-7, 1e-9].map(|tolerance| {
        let drawn = from_noise_by(&model, &e, None, &grid, adaptive(tolerance)).unwrap();
        // The tolerance holds for a step; a few steps add up, and the flow may spread their errors.
        assert!(distance(&drawn.samples, &exact) < 10.0 * tolerance);
        drawn.nfe.iter().sum::<usize>()
    });
    assert!(nfe.is_sorted() && nfe[3] > nfe[0], "{nfe:?}");
}

#[test]
fn evaluations_are_counted() {
    let model = perceptron(Schedule::Linear, 0, Kind::Double);
    let e = normal(1, &[3, 2]);
    let count = |solver| {
        from_noise_by(&model, &e, None, &uniform_grid(5), solver)
            .unwrap()
            .nfe
    };
    assert_eq!(count(Solver::Jump), [5; 3]);
    assert_eq!(count(Solver::Ode(Ode::Fixed(&EULER))), [5; 3]);
    assert_eq!(count(Solver::Ode(Ode::Fixed(&HEUN))), [10; 3]);
    assert_eq!(count(Solver::Ode(Ode::Fixed(&RK4))), [20; 3]);
    // Each of five parts begins with one evaluation, and a step takes six more.
    assert!(
        count(adaptive(1e-3))
            .iter()
            .all(|count| count % 6 == 5 && *count >= 35)
    );
}

#[test]
fn the_ode_of_a_network_blind_to_r_is_its_jump_with_euler() {
    // Without (t − r) the network has one velocity: jumps are Euler steps.
    let model = perceptron(Schedule::Linear, 0, Kind::Double);
    let embedding = model
        .parameters()
        .iter()
        .filter(|(name, _)| name.contains("h_embedder"));
    let mut blinded = 0;
    for (_, tensor) in embedding {
        let _ = tch::no_grad(|| tensor.shallow_clone().zero_());
        blinded += 1;
    }
    assert!(blinded > 0);
    let e = normal(1, &[3, 2]);
    let grid = cosine_grid(4);
    let euler = solve(&model, &e, &grid, Solver::Ode(Ode::Fixed(&EULER)));
    // The step is added in another order.
    assert!(relative(&euler, &from_noise(&model, &e, None, &grid).unwrap()) < 1e-14);
}

#[test]
fn no_solver_lets_samples_depend_on_each_other() {
    let config = dit_model(TimeEmbedding::TH, 10).config().clone();
    let model = Model::new(config, 0, Device::Cpu, Kind::Float).unwrap();
    randomise(&model);
    let seeds: Vec<u64> = (0..7).map(|index| index * 31).collect();
    for solver in [Solver::Jump, Solver::Ode(Ode::Fixed(&HEUN)), adaptive(1e-3)] {
        let draw = |seeds: &[u64]| {
            let labels: Vec<i64> = seeds.iter().map(|seed| (seed % 11) as i64).collect();
            let request = Request {
                seeds,
                labels: Some(&labels),
                grid: &cosine_grid(2),
                batch_size: 4,
            };
            sample_by(&model, &request, solver).unwrap()
        };
        let all = draw(&seeds);
        let reversed: Vec<u64> = seeds.iter().rev().copied().collect();
        let turned = draw(&reversed);
        assert_eq!(turned.samples.flip([0]), all.samples, "{solver:?}");
        assert!(turned.nfe.iter().rev().eq(&all.nfe));
        assert_eq!(
            draw(&seeds[3..5]).samples,
            all.samples.narrow(0, 3, 2),
            "{solver:?}"
        );
    }
}

#[test]
fn a_tolerance_out_of_reach_is_an_error() {
    let model = perceptron(Schedule::Linear, 0, Kind::Double);
    let hopeless = Tolerance {
        abs: 1e-12,
        rel: 0.0,
        max_steps: 3,
    };
    let error = from_noise_by(
        &model,
        &normal(1, &[1, 2]),
        None,
        &uniform_grid(1),
        Solver::Ode(Ode::Adaptive(hopeless)),
    );
    assert!(matches!(error, Err(TorchError::Solver(_))));
    let negative = from_noise_by(
        &model,
        &normal(1, &[1, 2]),
        None,
        &uniform_grid(1),
        adaptive(-1.0),
    );
    assert!(negative.unwrap_err().to_string().contains("tolerance.abs"));
}

#[test]
fn inverted_samples_are_their_noise() {
    let vp = Schedule::VariancePreserving {
        beta_min: 0.1,
        beta_max: 20.0,
    };
    for (schedule, classes) in [(Schedule::Linear, 3), (vp, 0)] {
        let model = perceptron(schedule, classes, Kind::Double);
        let e = normal(1, &[5, 2]);
        let labels: Option<&[i64]> = (classes > 0).then_some(&[0, 1, 2, 3, 0]);
        let settings = FixedPoint {
            tolerance: 1e-11,
            max_nfe: 500,
        };
        for grid in [uniform_grid(4), vec![1.0, 0.7, 0.4, 0.2, 0.0]] {
            let x = from_noise(&model, &e, labels, &grid).unwrap();
            let inverse = invert(&model, &x, labels, &grid, settings).unwrap();
            assert!(
                inverse
                    .residuals
                    .iter()
                    .all(|size| *size <= settings.tolerance)
            );
            // The residuals of four jumps, over the least share of a distance that a jump leaves.
            assert!(distance(&inverse.noise, &e) < 1e-9, "{schedule:?}");
            let again = from_noise(&model, &inverse.noise, labels, &grid).unwrap();
            assert!(distance(&again, &x) < 1e-9, "{schedule:?}");
        }
        let ode = |solver| match solver {
            Solver::Ode(ode) => ode,
            Solver::Jump => unreachable!("not asked for"),
        };
        for (solver, steps) in [(EXACT, 1), (Solver::Ode(Ode::Fixed(&RK4)), 200)] {
            let grid = uniform_grid(steps);
            let x = from_noise_by(&model, &e, labels, &grid, solver)
                .unwrap()
                .samples;
            let inverse = invert_flow(&model, &x, labels, &grid, ode(solver)).unwrap();
            // RK4 with steps of 1/200 errs by about 200⁻⁴ = 6·10⁻¹⁰ each way.
            assert!(distance(&inverse.samples, &e) < 1e-8, "{schedule:?}");
            assert_eq!(inverse.nfe.len(), 5);
        }
    }
}

#[test]
fn many_samples_wait_for_the_device_as_often_as_one() {
    let waits = |work: &dyn Fn()| host::waits(work).unwrap().1;
    let one = normal(1, &[1, 2]);
    let model = perceptron(Schedule::Linear, 0, Kind::Double);
    let settings = FixedPoint {
        tolerance: 1e-11,
        max_nfe: 500,
    };
    // Equal samples take equal iterations.
    let of_inversion = |rows| {
        let x = one.repeat([rows, 1]);
        waits(&|| drop(invert(&model, &x, None, &uniform_grid(2), settings).unwrap()))
    };
    assert!(of_inversion(1) > 2);
    assert_eq!(of_inversion(7), of_inversion(1));
}

#[test]
fn sizes_of_samples_are_read_at_once_and_exactly() {
    for kind in [Kind::Float, Kind::Double] {
        let x = normal(4, &[5, 3, 7]).to_kind(kind);
        let (sizes, waits) = host::waits(|| Rows(x.shallow_clone()).mean_squares()).unwrap();
        assert_eq!(waits, 1);
        let means = squared_norms(&x.to_kind(Kind::Double)) / 21.0;
        let expected: Vec<f64> = (0..5).map(|row| means.double_value(&[row])).collect();
        assert_eq!(sizes, expected);
    }
}

#[test]
fn an_inversion_cut_short_says_so() {
    let model = perceptron(Schedule::Linear, 0, Kind::Double);
    let x = normal(1, &[5, 2]);
    let short = FixedPoint {
        tolerance: 1e-12,
        max_nfe: 2,
    };
    let inverse = invert(&model, &x, None, &uniform_grid(1), short).unwrap();
    assert_eq!(inverse.nfe, [2; 5]);
    let again = from_noise(&model, &inverse.noise, None, &uniform_grid(1)).unwrap();
    let missed = Rows(again - &x).mean_squares();
    for (missed, residual) in missed.iter().zip(&inverse.residuals) {
        assert!(*residual > short.tolerance);
        // One rounding of the state.
        assert!(
            (missed.sqrt() - residual).abs() < 1e-14,
            "the residual is what the sample misses"
        );
    }
}

#[test]
fn interpolation_begins_and_ends_with_the_samples_of_its_seeds() {
    for model in [
        perceptron(Schedule::Linear, 0, Kind::Float),
        perceptron(Schedule::Linear, 3, Kind::Float),
    ] {
        let grid = uniform_grid(2);
        let class = (model.config().classes > 0).then_some(1);
        let request = Interpolation {
            seeds: [8, 5],
            count: 7,
            class,
            grid: &grid,
            batch_size: 4,
        };
        let row = interpolate(&model, &request, Solver::Jump).unwrap().samples;
        assert_eq!(row.size(), [7, 2]);
        let labels = class.map(|class| [class; 2]);
        let labels = labels.as_ref().map(<[i64; 2]>::as_slice);
        let ends = sample(
            &model,
            &Request {
                seeds: &[8, 5],
                labels,
                grid: &grid,
                batch_size: 4,
            },
        )
        .unwrap();
        assert_eq!(row.narrow(0, 0, 1), ends.narrow(0, 0, 1));
        assert_eq!(row.narrow(0, 6, 1), ends.narrow(0, 1, 1));
        let turned = Interpolation {
            seeds: [5, 8],
            ..request
        };
        let turned = interpolate(&model, &turned, Solver::Jump).unwrap().samples;
        // cos and sin of f64 meet to rounding, and are rounded to f32.
        assert!(relative(&turned.flip([0]), &row) < 1e-5);
        for (seeds, count) in [([8, 8], 7), ([8, 5], 1)] {
            let request = Interpolation {
                seeds,
                count,
                ..request
            };
            assert!(matches!(
                interpolate(&model, &request, Solver::Jump),
                Err(TorchError::Argument { .. })
            ));
        }
    }
}

#[test]
fn noise_on_the_way_is_as_normal_as_at_the_ends() {
    // With u = 0 a sample is its noise.
    let config = ModelConfig {
        shape: vec![40_000],
        ..mlp_model(TimeEmbedding::TH, 0).config().clone()
    };
    let model = Model::new(config, 0, Device::Cpu, Kind::Float).unwrap();
    let last = model.parameters().get("last.weight").unwrap();
    let _ = tch::no_grad(|| last.shallow_clone().zero_());
    let request = Interpolation {
        seeds: [1, 2],
        count: 5,
        class: None,
        grid: &uniform_grid(1),
        batch_size: 5,
    };
    let row = interpolate(&model, &request, Solver::Jump).unwrap().samples;
    for variance in Rows(row).mean_squares() {
        // Standard error 0.007; on a straight line the middle would have ½.
        assert!((variance - 1.0).abs() < 0.03, "{variance}");
    }
}

#[test]
fn a_conditional_model_samples_without_class() {
    let model = perceptron(Schedule::Linear, 3, Kind::Float);
    let draw = |labels: Option<&[i64]>| {
        sample(
            &model,
            &Request {
                seeds: &[1, 2],
                labels,
                grid: &uniform_grid(1),
                batch_size: 2,
            },
        )
        .unwrap()
    };
    assert_eq!(draw(None), draw(Some(&[3, 3])));
    assert_ne!(draw(None), draw(Some(&[0, 0])));
}

#[test]
fn grids_fall_from_noise_to_data() {
    for steps in [1, 2, 3, 7, 100] {
        for grid in [uniform_grid(steps), cosine_grid(steps)] {
            assert_eq!((grid.len(), grid[0], grid[steps]), (steps + 1, 1.0, 0.0));
            assert!(grid.windows(2).all(|times| times[0] > times[1]));
        }
    }
    let grid = cosine_grid(6);
    for (k, t) in grid.iter().enumerate() {
        // A rounding of π.
        assert!((t + grid[6 - k] - 1.0).abs() < 1e-15, "both ends alike");
    }
    assert!(1.0 - grid[1] < 1.0 / 6.0 && grid[2] - grid[3] > 1.0 / 6.0);
    let e = noise(&[1], &[2]);
    let model = perceptron(Schedule::Linear, 0, Kind::Float);
    assert!(from_noise(&model, &e, None, &cosine_grid(0)).is_err());
}
