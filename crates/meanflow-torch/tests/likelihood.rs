//! Likelihoods against closed forms: of normal data, of the change of variables, and of what a density sums up to.

use meanflow_core::solver::{EULER, HEUN, RK4, Tableau};
use meanflow_core::{Schedule, Tolerance};
use meanflow_testing::gaussian::normal_model;
use meanflow_testing::{dit_model, mlp_model, normal, random_model, randomise};
use meanflow_torch::layers::TimeEmbedding;
use meanflow_torch::sampler::{
    BYTE, Likelihood, Ode, TraceMethod, bits_per_dimension, dequantised, log_likelihood,
    uniform_grid,
};
use meanflow_torch::{Device, Kind, Model, ModelConfig, Tensor, TorchError};

const EXACT: Ode = Ode::Adaptive(Tolerance {
    abs: 1e-10,
    rel: 0.0,
    max_steps: 10_000,
});

/// What the tests ask for; a solver over one interval where it is adaptive.
fn request<'a>(seeds: &'a [u64], grid: &'a [f64], ode: Ode, trace: TraceMethod) -> Likelihood<'a> {
    Likelihood {
        seeds,
        labels: None,
        grid,
        batch_size: 1024,
        ode,
        trace,
    }
}

fn nats(model: &Model, x: &Tensor, (steps, ode): (usize, Ode), trace: TraceMethod) -> Vec<f64> {
    let seeds: Vec<u64> = (0..x.size()[0] as u64).collect();
    let grid = uniform_grid(steps);
    let request = request(&seeds, &grid, ode, trace);
    log_likelihood(model, x, &request).unwrap().nats
}

/// The largest difference between two lists.
fn apart(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    let pairs = a.iter().zip(b);
    pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

fn of_tensor(tensor: &Tensor) -> Vec<f64> {
    Vec::<f64>::try_from(tensor).unwrap()
}

#[test]
fn normal_data_have_their_density_to_the_order_of_the_method() {
    let (model, data) = normal_model(&[0.5, -1.0, 2.0], &[0.3, 1.0, 2.0]);
    let x = data.draw(&normal(1, &[6, 3]));
    let exact = of_tensor(&data.log_density(&x));
    assert!(apart(&nats(&model, &x, (1, EXACT), TraceMethod::Exact), &exact) < 1e-8);
    let methods: [(&'static Tableau, usize); 3] = [(&EULER, 512), (&HEUN, 64), (&RK4, 32)];
    for (method, steps) in methods {
        let error = |steps| {
            let found = nats(&model, &x, (steps, Ode::Fixed(method)), TraceMethod::Exact);
            apart(&found, &exact)
        };
        let order = (error(steps) / error(4 * steps)).log2() / 2.0;
        // The next term of the error bends the line; the next order is one away.
        let declared = f64::from(method.order);
        assert!((order - declared).abs() < 0.3, "{}: {order}", method.name);
    }
}

#[test]
fn random_signs_give_the_exact_trace_on_average() {
    let (model, data) = normal_model(&[0.0; 6], &[0.2, 0.5, 0.8, 1.0, 1.5, 2.0]);
    let x = data.draw(&normal(1, &[4, 6]));
    let way = (1, EXACT);
    let exact = nats(&model, &x, way, TraceMethod::Exact);
    let seeds = [5, 6, 7, 8];
    let grid = uniform_grid(16);
    let trace = TraceMethod::Hutchinson { probes: 256 };
    let request = request(&seeds, &grid, Ode::Fixed(&RK4), trace);
    let found = log_likelihood(&model, &x, &request).unwrap();
    for (row, exact) in exact.iter().enumerate() {
        let (nats, error) = (found.nats[row], found.standard_errors[row]);
        assert!(error > 0.0 && error < 0.5, "{error}");
        // The solver's own error is 10⁻³ of that.
        assert!(
            (nats - exact).abs() < 3.0 * error,
            "{nats} {exact} ± {error}"
        );
    }
    // Four times as many signs: half the error, itself known to a sixteenth or so.
    let few = Likelihood {
        trace: TraceMethod::Hutchinson { probes: 64 },
        ..request
    };
    let few = log_likelihood(&model, &x, &few).unwrap();
    let ratio: f64 = (0..4)
        .map(|row| few.standard_errors[row] / found.standard_errors[row] / 4.0)
        .sum();
    assert!((1.6..2.5).contains(&ratio), "{ratio}");
    let one = Likelihood {
        trace: TraceMethod::Hutchinson { probes: 1 },
        ..request
    };
    let one = log_likelihood(&model, &x, &one).unwrap();
    assert!(one.standard_errors.iter().all(|error| error.is_nan()));
    assert!(one.nats.iter().all(|nats| nats.is_finite()));
}

#[test]
fn a_density_sums_up_to_one() {
    // One dimension, where a sum is an integral: a random network with a path whose prior is not of unit size, and the linear path.
    let vp = Schedule::VariancePreserving {
        beta_min: 0.1,
        beta_max: 20.0,
    };
    let network = mlp_model(TimeEmbedding::TH, 0).config().network.clone();
    for schedule in [Schedule::Linear, vp] {
        let config = ModelConfig {
            schedule,
            ..random_model(network.clone(), &[1], 0).config().clone()
        };
        let model = Model::new(config, 3, Device::Cpu, Kind::Double).unwrap();
        randomise(&model);
        let (from, width, count) = (-30.0, 0.02, 3000);
        let x = (Tensor::arange(count, (Kind::Double, Device::Cpu)) + 0.5) * width + from;
        let nats = nats(
            &model,
            &x.reshape([-1, 1]),
            (64, Ode::Fixed(&RK4)),
            TraceMethod::Exact,
        );
        let sum: f64 = nats.iter().map(|nats| nats.exp() * width).sum();
        // The midpoint rule at a fiftieth of the density's scale, and the solver.
        assert!((sum - 1.0).abs() < 1e-3, "{sum}");
    }
}

#[test]
fn a_value_depends_on_its_own_sample_alone() {
    let config = dit_model(TimeEmbedding::TH, 10).config().clone();
    let model = Model::new(config, 0, Device::Cpu, Kind::Float).unwrap();
    randomise(&model);
    let x = normal(1, &[5, 3, 4, 6]).to_kind(Kind::Float);
    let (seeds, labels): (Vec<u64>, Vec<i64>) = ((10..15).collect(), vec![0, 9, 10, 3, 3]);
    let grid = uniform_grid(2);
    for trace in [TraceMethod::Exact, TraceMethod::Hutchinson { probes: 3 }] {
        let of = |rows: &[i64]| {
            let pick = |row: &i64| (seeds[*row as usize], labels[*row as usize]);
            let (seeds, labels): (Vec<u64>, Vec<i64>) = rows.iter().map(pick).unzip();
            let request = Likelihood {
                labels: Some(&labels),
                batch_size: 16,
                ..request(&seeds, &grid, Ode::Fixed(&HEUN), trace)
            };
            let x = x.index_select(0, &Tensor::from_slice(rows));
            log_likelihood(&model, &x, &request).unwrap()
        };
        let all = of(&[0, 1, 2, 3, 4]);
        assert_eq!(all.nfe, [4; 5]);
        let some = of(&[4, 2]);
        assert_eq!(some.nats, [all.nats[4], all.nats[2]], "{trace:?}");
        assert_eq!(
            some.standard_errors,
            [all.standard_errors[4], all.standard_errors[2]]
        );
        // Row 4 has the class and the shape of row 3, but is another sample.
        assert_ne!(all.nats[3], all.nats[4]);
    }
}

#[test]
fn a_byte_that_is_uniform_takes_eight_bits() {
    // Uniform over the 256 widths of a byte, in every one of 5 dimensions.
    let nats = -5.0 * (256.0 * BYTE).ln();
    assert!((bits_per_dimension(nats, 5) - 8.0).abs() < 1e-14);
    // All mass in the width of one byte: no bit.
    assert!(bits_per_dimension(-3.0 * BYTE.ln(), 3).abs() < 1e-14);
}

#[test]
fn dequantised_pictures_stay_within_their_bytes() {
    let bytes = Tensor::arange(256, (Kind::Float, Device::Cpu));
    let x = (&bytes / 127.5 - 1.0).reshape([1, 256]).repeat([40, 1]);
    let seeds: Vec<u64> = (0..40).collect();
    let found = dequantised(&x, &seeds).unwrap();
    let shift = (&found - &x).to_kind(Kind::Double) / BYTE;
    // An f32 near 1 is rounded to 10⁻⁵ of the width of a byte.
    assert!(shift.abs().max().double_value(&[]) < 0.5 + 2e-5);
    // 10,240 uniform numbers of standard deviation 12^-½: mean within four standard errors, variance 1/12 within 3 %.
    assert!(shift.mean(Kind::Double).double_value(&[]).abs() < 4.0 * 0.2887 / 101.0);
    assert!((shift.square().mean(Kind::Double).double_value(&[]) * 12.0 - 1.0).abs() < 0.03);
    assert_eq!(
        dequantised(&x.narrow(0, 7, 1), &[7]).unwrap(),
        found.narrow(0, 7, 1)
    );
    assert!(matches!(
        dequantised(&x, &[1]),
        Err(TorchError::Shape { .. })
    ));
}

#[test]
fn what_does_not_fit_is_refused() {
    let model = mlp_model(TimeEmbedding::TH, 0);
    let grid = uniform_grid(1);
    let ask = |x: &Tensor, seeds: &[u64], trace| {
        let request = request(seeds, &grid, Ode::Fixed(&EULER), trace);
        log_likelihood(&model, x, &request).unwrap_err().to_string()
    };
    let x = normal(1, &[2, 2]);
    assert!(ask(&x, &[1], TraceMethod::Exact).contains("[1, 2]"));
    assert!(ask(&normal(1, &[2, 3]), &[1, 2], TraceMethod::Exact).contains("[2, 2]"));
    let none = TraceMethod::Hutchinson { probes: 0 };
    assert!(ask(&x, &[1, 2], none).contains("probes: expected at least 1"));
}
