//! The gradients of a batch's parts add up to the gradient of the batch.

use meanflow_cfg::{Guidance, GuidanceInterval};
use meanflow_testing::{batch, dit_model, gradients, objective, relative};
use meanflow_torch::layers::TimeEmbedding;
use meanflow_torch::{Kind, Tensor};

#[test]
fn parts_add_up() {
    let model = dit_model(TimeEmbedding::TH, 10);
    let objective = objective(Guidance::new(1.0, 0.5, GuidanceInterval::ALL).unwrap());
    for (rows, jumps, parts) in [
        (8, 0.25, 4),
        (7, 0.5, 3),
        (5, 1.0, 2),
        (3, 0.0, 5),
        (1, 1.0, 1),
    ] {
        let whole = batch(&model, rows, jumps, &[1]);
        let expected = objective.loss(&model, &whole).unwrap();
        let split = whole.microbatches(parts);
        assert_eq!(split.len(), parts.min(rows));
        assert_eq!(
            split.iter().map(meanflow_torch::Batch::rows).sum::<usize>(),
            rows
        );
        assert_eq!(
            split.iter().map(|part| part.times.jumps).sum::<usize>(),
            whole.times.jumps
        );
        let mut sum = Tensor::zeros([], (Kind::Double, tch::Device::Cpu));
        for part in &split {
            let share = part.rows() as f64 / rows as f64;
            sum += objective.loss(&model, part).unwrap().loss * share;
        }
        // Sums of f64 in another order.
        assert!(relative(&sum, &expected.loss) < 1e-12);
        let (one, other) = (gradients(&model, &sum), gradients(&model, &expected.loss));
        for (one, other) in one.iter().zip(&other) {
            assert!((one - other).abs().max().double_value(&[]) < 1e-11);
        }
    }
}
