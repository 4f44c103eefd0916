//! The loss: fewer operations, the same number and the same gradients.

use meanflow_cfg::{Guidance, GuidanceInterval};
use meanflow_core::{AdaptiveWeight, Reduction};
use meanflow_testing::{batch, dit_model, gradients, mlp_model, normal, objective, relative};
use meanflow_torch::layers::TimeEmbedding;
use meanflow_torch::{Batch, Conditioning, JvpMethod, Kind, Model, Objective, Tensor, jvp};
use tch::no_grad;

/// Sums of f64 in another order.
const EXACT: f64 = 1e-11;

/// One number a row, to broadcast against a batch.
fn column(values: &[f64], batch: &Batch) -> Tensor {
    let mut shape = vec![1; batch.data.dim()];
    shape[0] = values.len() as i64;
    Tensor::from_slice(values).reshape(shape)
}

/// `ṽ` (M20) with both predictions on all rows, put out where there is no guidance.
fn dense_velocity(guidance: &Guidance, model: &Model, batch: &Batch, z: &Tensor) -> Tensor {
    let (t, v) = (batch.times.ts(), &batch.noise - &batch.data);
    let classes = model.config().classes;
    let labels = batch.labels.clone().unwrap_or_else(|| vec![0; t.len()]);
    let class = model.predict(z, &t, &t, Some(&labels));
    let null = model.predict(z, &t, &t, Some(&vec![classes; t.len()]));
    let (omega, kappa) = (guidance.omega(), guidance.kappa());
    let mixed = &v * omega + class * kappa + null * (1.0 - omega - kappa);
    let plain = |(t, dropped): (&f64, &bool)| {
        *dropped || !guidance.interval().contains(*t) || batch.labels.is_none()
    };
    let off = t.iter().zip(&batch.dropped).map(plain);
    let off: Vec<f64> = off.map(|off| f64::from(u8::from(off))).collect();
    let off = column(&off, batch);
    &off * &v + (1.0 - &off) * mixed
}

/// The step as the paper writes it: both guidance forwards on all rows, the derivative on all rows with a tape.
fn dense_loss(objective: &Objective, model: &Model, batch: &Batch) -> Tensor {
    let (t, r) = (batch.times.ts(), batch.times.rs());
    let time = column(&t, batch);
    let z = &batch.data * (1.0 - &time) + &batch.noise * time;
    let classes = model.config().classes;
    let labels = batch.labels.clone().unwrap_or_else(|| vec![0; t.len()]);
    let guided = no_grad(|| dense_velocity(&objective.guidance, model, batch, &z));
    let trained: Vec<i64> = labels
        .iter()
        .zip(&batch.dropped)
        .map(|(c, dropped)| if *dropped { classes } else { *c })
        .collect();
    let trained = Conditioning::of_labels((classes > 0).then(|| Tensor::from_slice(&trained)));
    let network = |x: &[Tensor]| {
        let [z, r, t] = [&x[0], &x[1], &x[2]].map(|x| x.shallow_clone().into());
        vec![model.forward(&z, &r, &t, &trained).into_parts().0]
    };
    let (r, t) = (Tensor::from_slice(&r), Tensor::from_slice(&t));
    let tangents = [guided.shallow_clone(), r.zeros_like(), t.ones_like()];
    let (u, dudt) = jvp(
        network,
        &[z, r.shallow_clone(), t.shallow_clone()],
        &tangents,
    )
    .unwrap();
    let length = Vec::<f64>::try_from(t - r).unwrap();
    let target = (guided - column(&length, batch) * &dudt[0]).detach();
    let loss = (&u[0] - target)
        .square()
        .flatten(1, -1)
        .sum_dim_intlist(-1, false, None::<Kind>);
    let weight =
        (loss.detach() + objective.weight.norm_eps).pow_tensor_scalar(-objective.weight.norm_p);
    (loss * weight).mean(None::<Kind>)
}

fn guidances() -> Vec<Guidance> {
    let late = GuidanceInterval::new(0.3, 0.6).unwrap();
    [
        (1.0, 0.0, GuidanceInterval::ALL),
        (2.0, 0.0, GuidanceInterval::ALL),
        (1.0, 0.5, GuidanceInterval::ALL),
        (0.2, 0.92, late),
        (0.5, 0.5, GuidanceInterval::ALL),
    ]
    .map(|(omega, kappa, interval)| Guidance::new(omega, kappa, interval).unwrap())
    .to_vec()
}

#[test]
fn sparse_step_is_the_dense_step() {
    for model in [
        dit_model(TimeEmbedding::TH, 10),
        mlp_model(TimeEmbedding::TR, 3),
        dit_model(TimeEmbedding::TRH, 0),
    ] {
        for guidance in guidances() {
            for (rows, jumps, drop) in [
                (8, 0.25, vec![1, 6]),
                (8, 1.0, vec![]),
                (8, 0.0, vec![0]),
                (1, 1.0, vec![]),
                (5, 0.5, vec![0, 1, 2, 3, 4]),
            ] {
                let objective = objective(guidance);
                let batch = batch(&model, rows, jumps, &drop);
                let sparse = objective.loss(&model, &batch).unwrap().loss;
                let dense = dense_loss(&objective, &model, &batch);
                assert!(
                    relative(&sparse, &dense) < EXACT,
                    "{guidance:?} {rows} {jumps}"
                );
                let (sparse, dense) = (gradients(&model, &sparse), gradients(&model, &dense));
                let flat = |parts: &[Tensor]| {
                    Tensor::cat(
                        &parts
                            .iter()
                            .map(|part| part.flatten(0, -1))
                            .collect::<Vec<_>>(),
                        0,
                    )
                };
                assert!(
                    relative(&flat(&sparse), &flat(&dense)) < EXACT,
                    "{guidance:?} {rows} {jumps}"
                );
            }
        }
    }
}

#[test]
fn every_method_gives_the_same_loss() {
    let model = dit_model(TimeEmbedding::TH, 10);
    let batch = batch(&model, 8, 0.5, &[2]);
    let loss = |jvp| {
        let objective = Objective {
            jvp,
            ..objective(Guidance::new(1.0, 0.5, GuidanceInterval::ALL).unwrap())
        };
        objective.loss(&model, &batch).unwrap().loss
    };
    let dual = loss(JvpMethod::Dual);
    assert!(relative(&loss(JvpMethod::ForwardAd), &dual) < EXACT);
    assert!(relative(&loss(JvpMethod::DoubleBackward), &dual) < EXACT);
    // The difference quotient's own error, 1e-4² and 1e-16/1e-4.
    assert!(relative(&loss(JvpMethod::FiniteDifference { step: 1e-4 }), &dual) < 1e-6);
}

#[test]
fn without_mean_flow_rows_it_is_flow_matching() {
    let model = dit_model(TimeEmbedding::TH, 10);
    let batch = batch(&model, 6, 0.0, &[3]);
    let objective = objective(Guidance::NONE);
    let (one, other) = (
        objective.loss(&model, &batch).unwrap(),
        objective.flow_matching_loss(&model, &batch).unwrap(),
    );
    assert!(relative(&one.loss, &other.loss) < EXACT);
    assert!(relative(&one.v_loss, &other.v_loss) < EXACT);
}

#[test]
fn weighted_loss_follows_its_formula() {
    let model = mlp_model(TimeEmbedding::TH, 0);
    let batch = batch(&model, 4, 0.0, &[]);
    for (power, reduction, dims) in [
        (0.0, Reduction::Sum, 1.0),
        (1.0, Reduction::Mean, 2.0),
        (0.75, Reduction::Sum, 1.0),
    ] {
        let weight = AdaptiveWeight {
            norm_p: power,
            norm_eps: 0.01,
            reduction,
        };
        let step = Objective {
            weight,
            ..objective(Guidance::NONE)
        }
        .loss(&model, &batch)
        .unwrap();
        let losses = Vec::<f64>::try_from(step.v_loss).unwrap();
        let by_hand: f64 = losses
            .iter()
            .map(|l| (l / dims) / (l / dims + 0.01).powf(power))
            .sum::<f64>()
            / 4.0;
        assert!((step.loss.double_value(&[]) - by_hand).abs() < 1e-12 * by_hand);
    }
}

#[test]
fn a_batch_of_unequal_parts_is_refused() {
    let model = dit_model(TimeEmbedding::TH, 10);
    let objective = objective(Guidance::NONE);
    let whole = || batch(&model, 4, 0.5, &[]);
    let broken = [
        Batch {
            dropped: vec![false; 3],
            ..whole()
        },
        Batch {
            labels: Some(vec![0; 5]),
            ..whole()
        },
        Batch {
            noise: normal(0, &[4, 3, 4, 4]),
            ..whole()
        },
        Batch {
            times: batch(&model, 3, 0.5, &[]).times,
            ..whole()
        },
    ];
    let none = objective.loss(&model, &batch(&model, 0, 0.5, &[]));
    assert!(none.unwrap_err().to_string().contains("at least one row"));
    for batch in broken {
        assert!(
            objective
                .loss(&model, &batch)
                .unwrap_err()
                .to_string()
                .contains("4 times, labels and drops")
        );
    }
}
