//! Other ways to compute the same network: products in bfloat16, and blocks that are computed again.

use meanflow_cfg::{Guidance, GuidanceInterval};
use meanflow_testing::{batch, dit_model, gradients, mlp_model, networks, normal, objective};
use meanflow_torch::layers::TimeEmbedding;
use meanflow_torch::networks::{NetworkConfig, UnetConfig};
use meanflow_torch::{
    Adam, AdamConfig, Batch, Compute, Conditioning, Device, Dtype, Gradients, JvpInputs, JvpMethod,
    Kind, Model, Tensor,
};

const BF16: Compute = Compute {
    dtype: Dtype::Bf16,
    activation_checkpointing: false,
};
const CHECKPOINTED: Compute = Compute {
    dtype: Dtype::F32,
    activation_checkpointing: true,
};

fn unet() -> Model {
    let network = NetworkConfig::Unet(UnetConfig {
        dropout: 0.2,
        ..networks::unet(8, &[1, 2], 1, &[4])
    });
    meanflow_testing::random_model(network, &[3, 8, 8], 4)
}

/// Every network twice, with the same parameters in f64: plainly, and in another way.
fn pairs(compute: Compute) -> [(&'static str, [Model; 2]); 3] {
    let twice = |model: fn() -> Model| [model(), model().computed(compute)];
    [
        ("mlp", twice(|| mlp_model(TimeEmbedding::TH, 3))),
        ("dit", twice(|| dit_model(TimeEmbedding::TH, 10))),
        ("unet", twice(unet)),
    ]
}

/// Loss, prediction errors of the rows and gradients.
fn step(model: &Model, batch: &Batch) -> Vec<Tensor> {
    let guidance = Guidance::new(1.0, 0.5, GuidanceInterval::ALL).unwrap();
    let loss = objective(guidance).loss(model, batch).unwrap();
    let mut all = vec![loss.loss.detach().unsqueeze(0), loss.v_loss];
    all.extend(gradients(model, &loss.loss));
    all
}

/// `‖a − b‖ / ‖b‖`.
fn distance(a: &Tensor, b: &Tensor) -> f64 {
    let norm = |x: &Tensor| x.norm().double_value(&[]);
    norm(&(a - b)) / norm(b).max(1e-300)
}

fn together(gradients: &[Tensor]) -> Tensor {
    let flat: Vec<Tensor> = gradients.iter().map(|x| x.reshape([-1])).collect();
    Tensor::cat(&flat, 0)
}

/// `u` and `du/dt` at random points.
fn prediction(model: &Model, rows: i64) -> [Tensor; 2] {
    let mut shape = vec![rows];
    shape.extend(&model.config().shape);
    let classes = model.config().classes;
    let point = JvpInputs {
        z: normal(1, &shape),
        r: normal(2, &[rows]).sigmoid() * 0.5,
        t: normal(3, &[rows]).sigmoid() * 0.5 + 0.5,
        condition: Conditioning::of_labels(Some(
            Tensor::arange(rows, (Kind::Int64, Device::Cpu)).remainder(classes),
        )),
        velocity: normal(4, &shape),
    };
    let (u, dudt) = JvpMethod::Dual.evaluate(model, &point).unwrap();
    [u.detach(), dudt]
}

#[test]
fn products_in_bfloat16_differ_by_their_rounding() {
    for (name, [plain, rounded]) in pairs(BF16) {
        let batch = batch(&plain, 16, 0.5, &[1]);
        let (exact, other) = (step(&plain, &batch), step(&rounded, &batch));
        let ([u, dudt], [rounded_u, rounded_dudt]) =
            (prediction(&plain, 8), prediction(&rounded, 8));
        let (gradient, rounded_gradient) = (together(&exact[2..]), together(&other[2..]));
        for (what, exact, other) in [
            ("u", &u, &rounded_u),
            ("du/dt", &dudt, &rounded_dudt),
            ("loss", &exact[0], &other[0]),
            ("rows", &exact[1], &other[1]),
            ("gradient", &gradient, &rounded_gradient),
        ] {
            assert_eq!(
                other.kind(),
                Kind::Double,
                "{name}: {what} in the masters' kind"
            );
            let error = distance(other, exact);
            println!("{name}: {what} {error:.1e}");
            // bfloat16 has 8 bits: a factor is off by up to 2^-9, and some ten rounded factors and results follow each
            // other here, whose errors are independent and add up as roots of sums of squares.
            assert!(error < 4.0 * 2_f64.powi(-8), "{name}: {what}: {error:e}");
        }
        // Else nothing was rounded.
        assert!(
            distance(&rounded_gradient, &gradient) > 2_f64.powi(-12),
            "{name}"
        );
    }
}

#[test]
fn rounded_parameters_follow_the_optimiser() {
    let model = dit_model(TimeEmbedding::TH, 10).computed(BF16);
    let batch = batch(&model, 8, 0.5, &[]);
    let constants = AdamConfig {
        beta2: 0.999,
        ..AdamConfig::PUBLISHED
    };
    let mut optimizer = Adam::new(model.parameters(), constants);
    let before = prediction(&model, 4);
    step(&model, &batch);
    optimizer.set_lr(1e-2);
    let gradients = Gradients::take(model.parameters()).unwrap();
    let is_finite = gradients.is_finite();
    optimizer.step(&gradients, &is_finite).unwrap();
    let after = prediction(&model, 4);
    let renewed = prediction(&model.computed(BF16), 4);
    assert!(distance(&after[0], &before[0]) > 0.1, "a step that is seen");
    assert_eq!(after, renewed, "no parameter is rounded from an old value");
}

#[test]
fn a_block_that_is_computed_again_has_the_same_gradients() {
    for (name, [plain, again]) in pairs(CHECKPOINTED) {
        let mut batch = batch(&plain, 8, 0.5, &[1]);
        batch.dropout = Some(3);
        let (expected, got) = (step(&plain, &batch), step(&again, &batch));
        for (index, (one, other)) in expected.iter().zip(&got).enumerate() {
            // The condition's gradient is a sum over the blocks in another order, in f64.
            let difference = (one - other).abs().max().double_value(&[]);
            assert!(difference < 1e-12, "{name}: tensor {index}: {difference:e}");
        }
    }
}

#[test]
fn what_is_computed_again_may_be_in_bfloat16_and_in_parts() {
    let both = Compute {
        activation_checkpointing: true,
        ..BF16
    };
    let (plain, again) = (
        dit_model(TimeEmbedding::TH, 10).computed(BF16),
        dit_model(TimeEmbedding::TH, 10).computed(both),
    );
    let batch = batch(&plain, 8, 0.5, &[1]);
    let all = |model: &Model| {
        model.parameters().zero_grad();
        for part in batch.microbatches(3) {
            let loss = objective(Guidance::NONE).loss(model, &part).unwrap().loss;
            loss.backward();
        }
        let tensors = model.parameters().tensors().into_iter();
        tensors.map(Tensor::grad).collect::<Vec<_>>()
    };
    for (one, other) in all(&plain).iter().zip(&all(&again)) {
        assert_eq!(one.kind(), Kind::Double);
        // As above; the condition's gradients are rounded to bfloat16 before they are added.
        assert!(distance(other, one) < 2_f64.powi(-9));
    }
}
