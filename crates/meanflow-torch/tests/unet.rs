//! The U-Net: its derivative by four routes, its rules, its dropout, its size.

use meanflow_cfg::{Guidance, GuidanceInterval};
use meanflow_testing::{
    agrees, batch, gradients, networks, normal, objective, random_model, relative,
};
use meanflow_torch::layers::TimeEmbedding;
use meanflow_torch::networks::{NetworkConfig, UnetConfig};
use meanflow_torch::{
    Batch, Conditioning, Device, Dropout, Dual, JvpInputs, JvpMethod, Kind, Model, Objective,
    Tensor,
};
use proptest::prelude::*;

const JVP_METHODS: [JvpMethod; 4] = [
    JvpMethod::Dual,
    JvpMethod::ForwardAd,
    JvpMethod::DoubleBackward,
    JvpMethod::FiniteDifference { step: 1e-4 },
];

fn config(dropout: f64) -> UnetConfig {
    UnetConfig {
        augment: 3,
        dropout,
        ..networks::unet(4, &[1, 2], 1, &[4])
    }
}

fn unet(config: UnetConfig, classes: i64) -> Model {
    random_model(NetworkConfig::Unet(config), &[2, 8, 8], classes)
}

/// Networks of different depths, filters, times and attention.
fn unets() -> Vec<Model> {
    let plain = UnetConfig {
        multipliers: vec![2],
        attention: vec![],
        augment: 0,
        embedding: TimeEmbedding::TRH,
        ..config(0.0)
    };
    let deep = UnetConfig {
        multipliers: vec![1, 2, 2],
        attention: vec![8, 2],
        filter: vec![1.0, 1.0],
        ..config(0.3)
    };
    vec![unet(config(0.2), 0), unet(plain, 3), unet(deep, 0)]
}

/// A point of `rows` rows, `k` of them moving, told everything that the network takes.
fn point(model: &Model, rows: i64, k: i64, dropout: Option<u64>) -> JvpInputs {
    let shape = [rows, 2, 8, 8];
    let t: Vec<f64> = (0..rows).map(|row| 1.0 - row as f64 / 7.0).collect();
    let r: Vec<f64> = t.iter().map(|t| t * 0.4).collect();
    let NetworkConfig::Unet(config) = &model.config().network else {
        unreachable!("these models are U-Nets")
    };
    let classes = model.config().classes;
    let labels: Vec<i64> = (0..rows).map(|row| row % (classes + 1)).collect();
    JvpInputs {
        z: normal(1, &shape),
        r: Tensor::from_slice(&r),
        t: Tensor::from_slice(&t),
        condition: Conditioning {
            labels: (classes > 0).then(|| Tensor::from_slice(&labels)),
            augment: (config.augment > 0).then(|| normal(3, &[rows, config.augment])),
            dropout: dropout.map(|seed| Dropout { seed, rows }),
        },
        velocity: normal(2, &shape).narrow(0, 0, k),
    }
}

#[test]
fn routes_agree() {
    for model in unets() {
        for (rows, k, dropout) in [(4, 4, None), (4, 2, Some(1)), (3, 1, Some(2)), (1, 1, None)] {
            let point = point(&model, rows, k, dropout);
            let (u, dual) = JvpMethod::Dual.evaluate(&model, &point).unwrap();
            let size = dual.abs().max().double_value(&[]);
            assert!(size > 1e-2, "a derivative to compare: {size}");
            // Rounding of f64 through a hundred operations; the difference quotient has 1e-5² and 1e-16/1e-5.
            for (jvp, tolerance) in [
                (JvpMethod::ForwardAd, 1e-10),
                (JvpMethod::DoubleBackward, 1e-10),
                (JvpMethod::FiniteDifference { step: 1e-5 }, 1e-7),
            ] {
                let (same, other) = jvp.evaluate(&model, &point).unwrap();
                assert_eq!(same, u, "the same operations on the same numbers");
                let error = relative(&other, &dual);
                assert!(error < tolerance, "{jvp:?} {rows} {k}: {error:e}");
            }
        }
    }
}

fn rows_and_moving() -> impl Strategy<Value = (i64, i64)> {
    (1..4_i64).prop_flat_map(|rows| (Just(rows), 1..=rows))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn rules((rows, k) in rows_and_moving(), groups in 1..4_i64, side in 1..4_i64, inner in 1..4_i64) {
        let (channels, side) = (4 * groups, 2 * side);
        let x = [vec![rows, channels, side, side]];
        let (weight, bias) = (normal(50, &[3, channels, 3, 3]), normal(51, &[3]));
        agrees(&x, k, |x| x[0].conv2d(&weight, &bias, 1));
        agrees(&x, k, |x| x[0].conv2d_stride2(&weight, &bias));
        agrees(&x, k, |x| x[0].upsample_nearest());
        let (scale, shift) = (normal(52, &[channels]), normal(53, &[channels]));
        agrees(&x, k, |x| x[0].group_norm(groups, &scale, &shift, 1e-6));
        let filter = normal(54, &[channels, 1, 2 * inner, 2 * inner]);
        if side >= inner {
            agrees(&x, k, |x| x[0].halve(&filter));
        }
        agrees(&x, k, |x| x[0].double(&filter));
        let mask = normal(55, &x[0]);
        agrees(&x, k, |x| x[0].mul_const(&mask));
        let two = [x[0].clone(), vec![rows, channels]];
        agrees(&two, k, |x| x[0].add_channel_bias(&x[1]));
    }

    #[test]
    fn doubling_is_four_times_the_adjoint_of_halving(channels in 1..4_i64, side in 1..4_i64, inner in 1..3_i64) {
        let filter = normal(1, &[channels, 1, 2 * inner, 2 * inner]);
        let (x, y) = (normal(2, &[2, channels, 4 * side, 4 * side]), normal(3, &[2, channels, 2 * side, 2 * side]));
        let [halved, doubled] = [
            Dual::from(x.shallow_clone()).halve(&filter),
            Dual::from(y.shallow_clone()).double(&filter),
        ];
        let one = (halved.primal() * y).sum(None::<Kind>).double_value(&[]);
        let other = (doubled.primal() * x).sum(None::<Kind>).double_value(&[]);
        prop_assert!((4.0 * one - other).abs() < 1e-11 * (1.0 + other.abs()));
    }
}

#[test]
fn a_shift_moves_a_still_picture() {
    let (x, shift) = (normal(1, &[3, 4, 2, 2]), normal(2, &[3, 4]));
    let speed = normal(3, &[2, 4]);
    let still = Dual::from(x);
    let moving = Dual::new(shift, speed.shallow_clone()).unwrap();
    let tangent = still.add_channel_bias(&moving).into_parts().1.unwrap();
    assert_eq!(tangent.size(), [2, 4, 2, 2]);
    assert_eq!(tangent.select(-1, 1).select(-1, 0), speed);
}

#[test]
fn dropout_is_off_unless_asked_for_and_fixed_by_its_seed() {
    let model = unet(config(0.5), 0);
    let run = |dropout| {
        JvpMethod::Dual
            .evaluate(&model, &point(&model, 4, 2, dropout))
            .unwrap()
            .0
    };
    assert_eq!(run(None), run(None));
    assert_eq!(run(Some(1)), run(Some(1)));
    assert_ne!(run(Some(1)), run(Some(2)));
    assert_ne!(run(Some(1)), run(None));
    let none = unet(config(0.0), 0);
    let run = |dropout| {
        JvpMethod::Dual
            .evaluate(&none, &point(&none, 4, 2, dropout))
            .unwrap()
            .0
    };
    assert_eq!(run(Some(1)), run(None));
}

fn forward_alone(model: &Model, rows: i64, dropout: Option<u64>) -> Tensor {
    tch::no_grad(|| {
        JvpMethod::Dual
            .evaluate(model, &point(model, rows, 0, dropout))
            .unwrap()
            .0
    })
}

fn with_augment(model: &Model, rows: usize, drop: &[usize], dropout: Option<u64>) -> Batch {
    Batch {
        augment: Some(normal(9, &[rows as i64, 3])),
        dropout,
        ..batch(model, rows, 0.5, drop)
    }
}

#[test]
fn every_method_gives_the_same_step_with_dropout() {
    let model = unet(config(0.2), 4);
    let batch = with_augment(&model, 6, &[2], Some(5));
    let run = |jvp| {
        let guidance = Guidance::new(1.0, 0.5, GuidanceInterval::ALL).unwrap();
        let objective = Objective {
            jvp,
            ..objective(guidance)
        };
        let loss = objective.loss(&model, &batch).unwrap().loss;
        let gradients = gradients(&model, &loss);
        let flat: Vec<Tensor> = gradients.iter().map(|part| part.flatten(0, -1)).collect();
        (loss, Tensor::cat(&flat, 0))
    };
    let (loss, gradient) = run(JvpMethod::Dual);
    for jvp in [JvpMethod::ForwardAd, JvpMethod::DoubleBackward] {
        let (other, along) = run(jvp);
        assert!(relative(&other, &loss) < 1e-10, "{jvp:?}");
        assert!(relative(&along, &gradient) < 1e-10, "{jvp:?}");
    }
}

#[test]
fn a_step_without_mean_flow_rows_needs_no_method() {
    let model = unet(config(0.0), 0);
    let flow = Batch {
        augment: Some(normal(9, &[3, 3])),
        ..batch(&model, 3, 0.0, &[])
    };
    let losses = JVP_METHODS.map(|jvp| {
        let objective = Objective {
            jvp,
            ..objective(Guidance::NONE)
        };
        objective
            .loss(&model, &flow)
            .unwrap()
            .loss
            .double_value(&[])
    });
    assert!(losses.iter().all(|loss| *loss == losses[0]), "{losses:?}");
}

#[test]
fn guidance_sees_no_dropped_units() {
    let model = unet(config(0.5), 4);
    let objective = objective(Guidance::new(1.0, 0.5, GuidanceInterval::ALL).unwrap());
    // All rows flow: the target is the guided velocity, in which a reused main forward would show its dropped units.
    let flow = Batch {
        dropout: Some(3),
        augment: Some(normal(9, &[4, 3])),
        ..batch(&model, 4, 0.0, &[])
    };
    let t = flow.times.ts();
    let times = || Dual::from(Tensor::from_slice(&t));
    let column = Tensor::from_slice(&t).reshape([4, 1, 1, 1]);
    let z: Tensor = &flow.data * (1.0 - &column) + &flow.noise * &column;
    let forward = |labels: &[i64], dropout: Option<Dropout>| {
        let condition = Conditioning {
            labels: Some(Tensor::from_slice(labels)),
            augment: Some(normal(9, &[4, 3])),
            dropout,
        };
        model
            .forward(&z.shallow_clone().into(), &times(), &times(), &condition)
            .into_parts()
            .0
    };
    let labels = flow.labels.clone().unwrap();
    let v = &flow.noise - &flow.data;
    let target = v + forward(&labels, None) * 0.5 + forward(&[4; 4], None) * -0.5;
    let u = forward(&labels, Some(Dropout { seed: 3, rows: 4 }));
    let losses = (u - target)
        .square()
        .flatten(1, -1)
        .sum_dim_intlist(-1, false, None::<Kind>);
    let by_hand = (&losses / (&losses + 0.01).sqrt()).mean(None::<Kind>);
    let loss = objective.loss(&model, &flow).unwrap().loss;
    assert!(relative(&loss, &by_hand) < 1e-11);
}

#[test]
fn sizes_that_are_no_network_are_refused() {
    let refused = |change: fn(&mut UnetConfig), shape: &[i64], key: &str| {
        let mut config = config(0.0);
        change(&mut config);
        let error = NetworkConfig::Unet(config)
            .validate(shape, 0)
            .unwrap_err()
            .to_string();
        assert!(error.contains(key), "{error}");
    };
    refused(|_| {}, &[2], "picture");
    refused(|_| {}, &[2, 8, 6], "square");
    refused(|c| c.channels = 6, &[2, 8, 8], "channels");
    refused(|c| c.multipliers = vec![1; 5], &[2, 8, 8], "multipliers");
    refused(|c| c.multipliers.clear(), &[2, 8, 8], "multipliers");
    refused(|c| c.filter = vec![1.0, 2.0, 1.0], &[2, 8, 8], "filter");
    refused(|c| c.filter = vec![1.0, -1.0], &[2, 8, 8], "filter");
    refused(|c| c.dropout = 1.0, &[2, 8, 8], "dropout");
    refused(|c| c.dropout = f64::NAN, &[2, 8, 8], "dropout");
    refused(|c| c.augment = -1, &[2, 8, 8], "augment");
}

#[test]
fn a_file_and_a_twin_hold_the_same_network() {
    let network = NetworkConfig::Unet(config(0.2));
    let config = meanflow_testing::config(network, &[2, 8, 8], 3);
    let model = Model::new(config, 3, Device::Cpu, Kind::Float).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("unet.safetensors");
    model
        .save(&path, std::collections::BTreeMap::new())
        .unwrap();
    let (loaded, _) = Model::load(&path, Device::Cpu).unwrap();
    assert_eq!(loaded.config(), model.config());
    let z = normal(1, &[2, 2, 8, 8]).to_kind(Kind::Float);
    let answer = |model: &Model| model.predict(&z, &[0.0, 0.2], &[1.0, 0.5], Some(&[1, 3]));
    assert_eq!(answer(&loaded), answer(&model));
    assert_eq!(answer(&model.twin()), answer(&model));
}

#[test]
fn a_fresh_network_answers_almost_zero() {
    let network = NetworkConfig::Unet(config(0.0));
    let config = meanflow_testing::config(network, &[2, 8, 8], 0);
    let model = Model::new(config, 0, Device::Cpu, Kind::Double).unwrap();
    let size = forward_alone(&model, 2, None).abs().max().double_value(&[]);
    // The last convolution starts at 1e-5 of the usual size.
    assert!(size > 0.0 && size < 1e-3, "{size}");
}
