//! StepInputs of a step: all that goes over, and they can be filled anew.

use meanflow_cfg::{Guidance, GuidanceInterval};
use meanflow_core::{MaskOrder, MeanFlowRatio, Purpose, RngStream, TimeDistribution, TimeSampler};
use meanflow_testing::{batch, dit_model, gradients, normal, objective};
use meanflow_torch::layers::TimeEmbedding;
use meanflow_torch::{Batch, Model, Objective, StepInputs, Tangent, Tensor, host};

/// Guidance that weighs all three velocities, and each way to need fewer.
const GUIDANCE: [(f64, f64); 4] = [(0.7, 0.6), (0.5, 0.5), (2.0, 0.0), (1.0, 0.0)];

fn guided((omega, kappa): (f64, f64)) -> Objective {
    objective(Guidance::new(omega, kappa, GuidanceInterval::ALL).unwrap())
}

/// Another batch with as many rows of every kind.
fn other(model: &Model, rows: usize, jumps: f64) -> Batch {
    let mut other = batch(model, rows, jumps, &[rows - 2]);
    let size = other.data.size();
    (other.data, other.noise) = (normal(11, &size), normal(12, &size));
    other.labels.as_mut().unwrap().rotate_left(1);
    let law = TimeSampler {
        t: TimeDistribution::Uniform,
        r: None,
        mean_flow_ratio: MeanFlowRatio::Count(jumps),
        order: MaskOrder::AfterOrdering,
    };
    other.times = law.draw(rows, &mut RngStream::new(9, Purpose::Times, 9));
    other
}

fn loss_of(objective: &Objective, model: &Model, inputs: &StepInputs) -> (Tensor, Vec<Tensor>) {
    let loss = objective.loss_along(Tangent::TRAJECTORY, model, inputs);
    let loss = loss.unwrap().loss;
    let gradients = gradients(model, &loss);
    (loss, gradients)
}

#[test]
fn what_is_filled_is_computed() {
    let model = dit_model(TimeEmbedding::TH, 10);
    for guidance in GUIDANCE {
        let objective = guided(guidance);
        for (rows, jumps) in [(8, 0.5), (3, 1.0 / 3.0), (5, 0.0)] {
            let inputs = |batch: &Batch| StepInputs::new(&objective, &model, batch).unwrap();
            let first = batch(&model, rows, jumps, &[rows - 1]);
            let second = inputs(&other(&model, rows, jumps));
            let expected = loss_of(&objective, &model, &second);
            let mut fixed = inputs(&first);
            assert_ne!(loss_of(&objective, &model, &fixed).0, expected.0);
            fixed.fill(&second).unwrap();
            assert_eq!(
                loss_of(&objective, &model, &fixed),
                expected,
                "{guidance:?}"
            );
        }
    }
}

/// Padding makes batches of one size the same work, and adds rows of weight 0 only: the loss differs by the roundings of products of
/// more rows, 2⁻²⁴ each.
#[test]
fn padded_batches_are_the_same_work_and_the_same_loss() {
    let model = dit_model(TimeEmbedding::TH, 10);
    for guidance in GUIDANCE {
        let objective = guided(guidance);
        let mut fixed = None;
        for drop in [
            &[][..],
            &[1],
            &[0, 1, 2],
            &[5, 6],
            &[0, 1, 2, 3, 4, 5, 6, 7],
        ] {
            for jumps in [0.0, 0.25, 0.5] {
                let mut batch = batch(&model, 8, jumps, drop);
                let plain = StepInputs::new(&objective, &model, &batch).unwrap();
                let (expected, gradients) = loss_of(&objective, &model, &plain);
                batch.times = batch.times.padded(4);
                let padded = StepInputs::padded(&objective, &model, &batch).unwrap();
                let (loss, of_padded) = loss_of(&objective, &model, &padded);
                let (loss, expected) = (loss.double_value(&[]), expected.double_value(&[]));
                assert!(
                    (loss - expected).abs() < 1e-6 * expected,
                    "{loss} {expected}"
                );
                for (one, other) in of_padded.iter().zip(&gradients) {
                    let apart = (one - other).norm().double_value(&[]);
                    assert!(
                        apart < 1e-5 * other.norm().double_value(&[]).max(1e-3),
                        "{guidance:?} {drop:?}: {apart}"
                    );
                }
                match &mut fixed {
                    None => fixed = Some(padded),
                    Some(fixed) => fixed.fill(&padded).unwrap(),
                }
            }
        }
    }
}

#[test]
fn once_they_are_there_nothing_goes_over() {
    let model = dit_model(TimeEmbedding::TH, 10);
    for guidance in GUIDANCE {
        let objective = guided(guidance);
        let batch = batch(&model, 8, 0.5, &[1]);
        let (inputs, before) = host::sends(|| StepInputs::new(&objective, &model, &batch).unwrap());
        let (_, after) = host::sends(|| loss_of(&objective, &model, &inputs));
        assert!(before <= 5, "{before} transfers for a batch");
        assert_eq!(after, 0, "{guidance:?}");
    }
}

#[test]
fn other_work_is_refused() {
    let model = dit_model(TimeEmbedding::TH, 10);
    let objective = guided((1.0, 0.5));
    let inputs = |batch: &Batch| StepInputs::new(&objective, &model, batch).unwrap();
    let mut fixed = inputs(&batch(&model, 8, 0.5, &[1]));
    // One more MeanFlow row; a dropped label more, fewer, and of a flow-matching row; another number of rows.
    for (rows, jumps, drop) in [
        (8, 0.625, &[1][..]),
        (8, 0.5, &[1, 2]),
        (8, 0.5, &[]),
        (8, 0.5, &[6]),
        (7, 4.0 / 7.0, &[1]),
    ] {
        let refused = fixed.fill(&inputs(&batch(&model, rows, jumps, drop)));
        let text = refused.unwrap_err().to_string();
        assert!(
            text.contains("expected") && text.contains("jumps"),
            "{text}"
        );
    }
    fixed.fill(&inputs(&batch(&model, 8, 0.5, &[3]))).unwrap();
}
