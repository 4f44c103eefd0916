//! Variations and completions: their ends, their laws in closed form, and that each depends on itself alone.

use meanflow_core::solver::HEUN;
use meanflow_core::{FixedPoint, Norm};
use meanflow_testing::gaussian::normal_model;
use meanflow_testing::{dit_model, mlp_model, normal, randomise};
use meanflow_torch::layers::TimeEmbedding;
use meanflow_torch::sampler::{
    Edit, Inpainting, Ode, Request, Solver, edit, edit_noise, from_noise, inpaint, invert, noise,
    sample, uniform_grid,
};
use meanflow_torch::{Device, Kind, Model, Rows, Tensor};

fn float_model() -> Model {
    let config = dit_model(TimeEmbedding::TH, 10).config().clone();
    let model = Model::new(config, 0, Device::Cpu, Kind::Float).unwrap();
    randomise(&model);
    model
}

const LABELS: [i64; 5] = [0, 9, 10, 3, 3];
const SEEDS: [u64; 5] = [3, 1, 4, 1, 5];

fn pictures() -> Tensor {
    normal(1, &[5, 3, 4, 6]).to_kind(Kind::Float)
}

fn request<'a>(strength: f64, grid: &'a [f64]) -> Edit<'a> {
    Edit {
        strength,
        seeds: &SEEDS,
        labels: Some(&LABELS),
        grid,
        batch_size: 4,
    }
}

/// The mean over rows of the root mean square of `a − b`.
fn distance(a: &Tensor, b: &Tensor) -> f64 {
    let squares = Rows(a - b).mean_squares();
    squares.iter().map(|x| x.sqrt()).sum::<f64>() / squares.len() as f64
}

#[test]
fn an_edit_goes_from_the_sample_to_a_sample_of_its_seed() {
    let (model, x) = (float_model(), pictures());
    for (grid, solver) in [
        (uniform_grid(1), Solver::Jump),
        (uniform_grid(2), Solver::Ode(Ode::Fixed(&HEUN))),
    ] {
        let none = edit(&model, &x, &request(0.0, &grid), solver).unwrap();
        assert_eq!((none.samples, none.nfe), (x.shallow_clone(), vec![0; 5]));
        let all = edit(&model, &x, &request(1.0, &grid), solver).unwrap();
        let drawn = meanflow_torch::sampler::sample_by(
            &model,
            &Request {
                seeds: &SEEDS,
                labels: Some(&LABELS),
                grid: &grid,
                batch_size: 4,
            },
            solver,
        )
        .unwrap();
        assert_eq!(all.samples, drawn.samples, "{solver:?}");
        assert_eq!(all.nfe, drawn.nfe);
        // Turned noise: the two ends are the samples of the two noises; cos ½π is not 0 but 6·10⁻¹⁷.
        let e = noise(&[11, 12, 13, 14, 15], &[3, 4, 6]);
        let kept = edit_noise(&model, &e, &request(0.0, &grid), solver).unwrap();
        let same = meanflow_torch::sampler::from_noise_by(&model, &e, Some(&LABELS), &grid, solver);
        assert!(distance(&kept.samples, &same.unwrap().samples) < 1e-5);
        let turned = edit_noise(&model, &e, &request(1.0, &grid), solver).unwrap();
        assert!(distance(&turned.samples, &drawn.samples) < 1e-5);
    }
}

#[test]
fn an_edit_depends_on_its_own_row_alone() {
    let (model, x) = (float_model(), pictures());
    let grid = uniform_grid(2);
    let mask = x.gt(0.0);
    let of = |rows: &[i64]| {
        let seeds: Vec<u64> = rows.iter().map(|row| SEEDS[*row as usize]).collect();
        let labels: Vec<i64> = rows.iter().map(|row| LABELS[*row as usize]).collect();
        let indices = Tensor::from_slice(rows);
        let (x, mask) = (x.index_select(0, &indices), mask.index_select(0, &indices));
        let request = Edit {
            seeds: &seeds,
            labels: Some(&labels),
            ..request(0.5, &grid)
        };
        let completion = Inpainting {
            seeds: &seeds,
            labels: Some(&labels),
            grid: &grid,
            batch_size: 4,
        };
        [
            edit(&model, &x, &request, Solver::Jump).unwrap().samples,
            edit_noise(&model, &x, &request, Solver::Jump)
                .unwrap()
                .samples,
            inpaint(&model, &x, &mask, &completion).unwrap().samples,
        ]
    };
    let all = of(&[0, 1, 2, 3, 4]);
    let some = of(&[4, 2]);
    for (all, some) in all.iter().zip(&some) {
        assert_eq!(all.get(4), some.get(0));
        assert_eq!(all.get(2), some.get(1));
    }
}

/// The noise of samples of normal data.
fn inverted(model: &Model, x: &Tensor) -> Tensor {
    let settings = FixedPoint {
        tolerance: 1e-9,
        max_nfe: 1000,
    };
    invert(model, x, None, &uniform_grid(1), settings)
        .unwrap()
        .noise
}

#[test]
fn a_variation_of_normal_data_has_the_law_of_the_data() {
    let (model, data) = normal_model(&[0.5, -1.0], &[0.3, 1.5]);
    let count = 4000;
    let x = data.draw(&normal(1, &[count, 2]));
    let seeds: Vec<u64> = (0..count as u64).collect();
    let e = inverted(&model, &x);
    let mut last = [0.0; 2];
    for strength in [0.0, 0.25, 0.5, 0.75, 1.0] {
        let request = Edit {
            strength,
            seeds: &seeds,
            labels: None,
            grid: &uniform_grid(1),
            batch_size: 512,
        };
        let ways = [
            edit(&model, &x, &request, Solver::Jump).unwrap(),
            edit_noise(&model, &e, &request, Solver::Jump).unwrap(),
        ];
        for (way, drawn) in ways.iter().enumerate() {
            let found = drawn.samples.to_kind(Kind::Double);
            let centred = &found - data.mean();
            let covariance = centred.tr().matmul(&centred) / count as f64;
            // Standard errors of 4000 draws: 0.024 of a deviation for the mean, √2 · 0.016 = 2.2 % for a variance; four of them.
            let error = (covariance - data.covariance())
                .abs()
                .max()
                .double_value(&[]);
            assert!(
                error < 4.0 * 0.022 * 1.5 * 1.5,
                "way {way}, {strength}: {error}"
            );
            let far = distance(&found, &x);
            assert!(
                far > last[way] || strength == 0.0,
                "way {way}, {strength}: {far}"
            );
            last[way] = far;
        }
        if strength == 0.0 {
            // f32 at the end, and the tolerance of the inversion.
            assert!(last[0] < 1e-6 && last[1] < 1e-6, "{last:?}");
        }
    }
}

#[test]
fn the_seed_decides_nothing_at_strength_0_and_much_at_1() {
    let (model, x) = (float_model(), pictures());
    let grid = uniform_grid(1);
    let with = |seeds: &[u64; 5], strength| {
        let request = Edit {
            seeds,
            ..request(strength, &grid)
        };
        edit(&model, &x, &request, Solver::Jump).unwrap().samples
    };
    let (one, other) = ([1, 2, 3, 4, 5], [6, 7, 8, 9, 10]);
    assert_eq!(with(&one, 0.0), with(&other, 0.0));
    let (a, b) = (with(&one, 0.3), with(&one, 1.0));
    assert!(distance(&a, &with(&other, 0.3)) < distance(&b, &with(&other, 1.0)));
}

#[test]
fn completions_of_normal_data_come_near_to_the_law_given_what_is_known() {
    let (model, data) = normal_model(&[0.5, -1.0], &[0.3, 1.5]);
    let count = 4000;
    let x = data.draw(&normal(1, &[count, 2]));
    let seeds: Vec<u64> = (0..count as u64).collect();
    let mask = Tensor::from_slice(&[false, true]);
    let covariance = data.covariance();
    let of = |row, column| covariance.double_value(&[row, column]);
    // Of the second value given the first: the slope of its mean, and its variance.
    let slope = of(0, 1) / of(0, 0);
    let variance = of(1, 1) - of(0, 1) * slope;
    let errors = [1, 4, 16, 64].map(|steps| {
        let request = Inpainting {
            seeds: &seeds,
            labels: None,
            grid: &uniform_grid(steps),
            batch_size: 500,
        };
        let drawn = inpaint(&model, &x, &mask, &request).unwrap().samples;
        let centred = drawn.to_kind(Kind::Double) - data.mean();
        let moments = centred.tr().matmul(&centred) / count as f64;
        let found = moments.double_value(&[0, 1]) / moments.double_value(&[0, 0]);
        let left = moments.double_value(&[1, 1]) - found * moments.double_value(&[0, 1]);
        (
            (found - slope).abs() / slope.abs(),
            (left - variance).abs() / variance,
        )
    });
    // One jump knows nothing: the slope is 0.
    assert!((errors[0].0 - 1.0).abs() < 0.05, "{errors:?}");
    for pair in errors.windows(2) {
        assert!(
            pair[1].0 < 0.8 * pair[0].0 && pair[1].1 < 0.8 * pair[0].1,
            "{errors:?}"
        );
    }
    assert!(errors[3].0 < 0.1, "{errors:?}");
}

#[test]
fn known_pixels_stay_to_the_bit_and_a_mask_of_all_gives_samples() {
    let (model, x) = (float_model(), pictures());
    for steps in [1, 4] {
        let grid = uniform_grid(steps);
        let completion = Inpainting {
            seeds: &SEEDS,
            labels: Some(&LABELS),
            grid: &grid,
            batch_size: 4,
        };
        let columns = Tensor::from_slice(&[true, false, false, true, false, false]);
        let drawn = inpaint(&model, &x, &columns, &completion).unwrap();
        assert_eq!(drawn.nfe, vec![steps; 5]);
        let same = drawn.samples.eq_tensor(&x);
        assert_eq!(same, columns.logical_not().expand_as(&same));
        // Nothing is drawn: nothing changes.
        let none = Tensor::zeros([1], (Kind::Bool, Device::Cpu));
        assert_eq!(inpaint(&model, &x, &none, &completion).unwrap().samples, x);
        // All is drawn, in one jump: a sample.
        if steps == 1 {
            let all = none.logical_not();
            let drawn = inpaint(&model, &x, &all, &completion).unwrap().samples;
            let request = Request {
                seeds: &SEEDS,
                labels: Some(&LABELS),
                grid: &grid,
                batch_size: 4,
            };
            assert_eq!(drawn, sample(&model, &request).unwrap());
        }
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let model = mlp_model(TimeEmbedding::TH, 0);
    let grid = uniform_grid(1);
    let x = normal(1, &[2, 2]);
    let ask = |strength, seeds: &[u64], grid: &[f64]| {
        let request = Edit {
            strength,
            seeds,
            labels: None,
            grid,
            batch_size: 4,
        };
        edit(&model, &x, &request, Solver::Jump)
            .unwrap_err()
            .to_string()
    };
    for strength in [-0.1, 1.1, f64::NAN] {
        assert!(ask(strength, &[1, 2], &grid).contains("strength: expected 0 to 1"));
    }
    assert!(ask(0.5, &[1], &grid).contains("[1, 2]"));
    assert!(ask(0.5, &[1, 2], &[0.5, 0.0]).contains("decrease from 1 to 0"));
    let completion = Inpainting {
        seeds: &[1, 2],
        labels: None,
        grid: &grid,
        batch_size: 4,
    };
    for mask in [
        Tensor::ones([3], (Kind::Bool, Device::Cpu)),
        Tensor::ones([2], (Kind::Float, Device::Cpu)),
    ] {
        let error = inpaint(&model, &x, &mask, &completion).unwrap_err();
        assert!(error.to_string().contains("mask"), "{error}");
    }
    assert!(from_noise(&model, &x, None, &grid).is_ok());
}
