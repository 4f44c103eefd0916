//! Four routes to `du/dt` agree, and a tangent changes nothing but itself.

use meanflow_testing::{models, normal, relative};
use meanflow_torch::layers::TimeEmbedding;
use meanflow_torch::{Conditioning, Dual, JvpInputs, JvpMethod, Model, Tangent, Tensor};

const EMBEDDINGS: [TimeEmbedding; 4] = [
    TimeEmbedding::TH,
    TimeEmbedding::TR,
    TimeEmbedding::TRH,
    TimeEmbedding::H,
];

/// A point of `rows` rows, `k` of them moving; times include 0, 1 and r = t.
fn point(model: &Model, rows: i64, k: i64) -> JvpInputs {
    let mut shape = vec![rows];
    shape.extend(&model.config().shape);
    let z = normal(3, &shape);
    let t: Vec<f64> = (0..rows)
        .map(|row| 1.0 - row as f64 / (rows.max(2) - 1) as f64)
        .collect();
    let r: Vec<f64> = t
        .iter()
        .enumerate()
        .map(|(row, t)| t * [0.0, 0.5, 1.0][row % 3])
        .collect();
    let classes = model.config().classes;
    let labels: Vec<i64> = (0..rows).map(|row| row % (classes + 1)).collect();
    JvpInputs {
        velocity: normal(4, &shape).narrow(0, 0, k),
        z,
        r: Tensor::from_slice(&r),
        t: Tensor::from_slice(&t),
        condition: Conditioning::of_labels((classes > 0).then(|| Tensor::from_slice(&labels))),
    }
}

#[test]
fn routes_agree() {
    for embedding in EMBEDDINGS {
        for model in models(embedding) {
            for (rows, k) in [(5, 5), (5, 2), (1, 1)] {
                let point = point(&model, rows, k);
                let (_, dual) = JvpMethod::Dual.evaluate(&model, &point).unwrap();
                assert!(
                    dual.abs().max().double_value(&[]) > 1e-3,
                    "a derivative to compare"
                );
                // Rounding of f64 through a few dozen operations; the difference quotient has 1e-5² and 1e-16/1e-5.
                for (jvp, tolerance) in [
                    (JvpMethod::ForwardAd, 1e-10),
                    (JvpMethod::DoubleBackward, 1e-10),
                    (JvpMethod::FiniteDifference { step: 1e-5 }, 1e-7),
                ] {
                    let (_, other) = jvp.evaluate(&model, &point).unwrap();
                    let error = relative(&other, &dual);
                    assert!(
                        error < tolerance,
                        "{jvp:?} {:?} {rows} {k}: {error:e}",
                        model.config()
                    );
                }
            }
        }
    }
}

#[test]
fn derivative_is_linear_in_the_direction_along_every_route() {
    let methods = [
        JvpMethod::Dual,
        JvpMethod::ForwardAd,
        JvpMethod::DoubleBackward,
    ];
    for model in models(TimeEmbedding::TRH) {
        let point = point(&model, 5, 3);
        for jvp in methods {
            let along = |direction| jvp.evaluate_along(direction, &model, &point).unwrap().1;
            let (right, still) = (along(Tangent::TRAJECTORY), along(Tangent::wrong(0.0, 0.0)));
            let (early, both) = (
                along(Tangent::wrong(1.0, 0.0)),
                along(Tangent::wrong(1.0, 1.0)),
            );
            let (_, dual) = JvpMethod::Dual
                .evaluate_along(Tangent::wrong(1.0, 1.0), &model, &point)
                .unwrap();
            // Rounding of f64 through a few dozen operations, in three terms.
            assert!(relative(&both, &dual) < 1e-10, "{jvp:?}");
            assert!(
                relative(&(&right + &early - &still), &both) < 1e-10,
                "{jvp:?}"
            );
            for other in [still, early, both] {
                assert!(
                    relative(&other, &right) > 1e-3,
                    "{jvp:?}: a wrong direction shows"
                );
            }
        }
    }
}

#[test]
fn primal_of_a_dual_forward_is_the_plain_forward() {
    for model in models(TimeEmbedding::TH) {
        let moving = point(&model, 5, 3);
        let still = JvpInputs {
            velocity: moving.velocity.narrow(0, 0, 0),
            ..point(&model, 5, 3)
        };
        let (dual, _) = JvpMethod::Dual.evaluate(&model, &moving).unwrap();
        let (plain, _) = JvpMethod::Dual.evaluate(&model, &still).unwrap();
        assert_eq!(dual, plain, "the same operations on the same numbers");
    }
}

#[test]
fn tangent_of_some_rows_is_that_part_of_the_tangent_of_all() {
    for model in models(TimeEmbedding::TRH) {
        let (_, all) = JvpMethod::Dual
            .evaluate(&model, &point(&model, 7, 7))
            .unwrap();
        for k in [1, 3, 6] {
            let (_, some) = JvpMethod::Dual
                .evaluate(&model, &point(&model, 7, k))
                .unwrap();
            // Matrix products of other sizes may sum in another order.
            assert!(relative(&some, &all.narrow(0, 0, k)) < 1e-12);
        }
    }
}

#[test]
fn tangent_has_no_tape() {
    for model in models(TimeEmbedding::TH) {
        let (u, dudt) = JvpMethod::Dual
            .evaluate(&model, &point(&model, 4, 2))
            .unwrap();
        assert!(u.requires_grad());
        assert!(!dudt.requires_grad());
    }
}

#[test]
fn a_tangent_that_does_not_fit_is_refused() {
    let primal = Tensor::zeros([3, 4], (tch::Kind::Float, tch::Device::Cpu));
    for shape in [vec![4, 4], vec![2, 5], vec![2], vec![]] {
        let tangent = Tensor::zeros(shape.as_slice(), (tch::Kind::Float, tch::Device::Cpu));
        let error = Dual::new(primal.shallow_clone(), tangent)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("k ≤ 3") && error.contains(&format!("{shape:?}")),
            "{error}"
        );
    }
}
