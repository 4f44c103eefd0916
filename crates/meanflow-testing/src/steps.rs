//! Batches for a model, its loss and gradients, and rules against libtorch.

use meanflow_cfg::Guidance;
use meanflow_core::random::{Purpose, RngStream};
use meanflow_core::{
    AdaptiveWeight, MaskOrder, MeanFlowRatio, Reduction, Schedule, TimeDistribution, TimeSampler,
};
use meanflow_torch::{Batch, Dual, JvpMethod, Model, Objective, Tensor, jvp};

use crate::normal;

/// A batch of `rows` samples of which the share `jumps` has `r < t`.
pub fn batch(model: &Model, rows: usize, jumps: f64, drop: &[usize]) -> Batch {
    let law = TimeSampler {
        t: TimeDistribution::LogitNormal {
            mean: -0.4,
            std: 1.0,
        },
        r: None,
        mean_flow_ratio: MeanFlowRatio::Count(jumps),
        order: MaskOrder::AfterOrdering,
    };
    let mut shape = vec![rows as i64];
    shape.extend(&model.config().shape);
    let classes = model.config().classes;
    Batch {
        data: normal(1, &shape),
        noise: normal(2, &shape),
        labels: (classes > 0).then(|| (0..rows as i64).map(|row| row % classes).collect()),
        times: law.draw(rows, &mut RngStream::new(5, Purpose::Times, 0)),
        dropped: (0..rows).map(|row| drop.contains(&row)).collect(),
        augment: None,
        dropout: None,
    }
}

/// The loss on the linear path, with the constants of the published ImageNet models but a power of ½.
pub fn objective(guidance: Guidance) -> Objective {
    Objective {
        schedule: Schedule::Linear,
        weight: AdaptiveWeight {
            norm_p: 0.5,
            norm_eps: 0.01,
            reduction: Reduction::Sum,
        },
        guidance,
        jvp: JvpMethod::Dual,
    }
}

/// `max |a − b| / max |b|`.
pub fn relative(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.size(), b.size());
    let scale = b.abs().max().double_value(&[]).max(1e-300);
    (a - b).abs().max().double_value(&[]) / scale
}

/// The gradients of `loss` in the parameters' order.
pub fn gradients(model: &Model, loss: &Tensor) -> Vec<Tensor> {
    model.parameters().zero_grad();
    loss.backward();
    let gradient = |tensor: &Tensor| {
        let gradient = tensor.grad();
        if gradient.defined() {
            gradient.copy()
        } else {
            tensor.zeros_like()
        }
    };
    model
        .parameters()
        .iter()
        .map(|(_, tensor)| gradient(tensor))
        .collect()
}

/// Rounding of a handful of f64 operations.
const EXACT: f64 = 1e-12;

/// Checks a rule of arguments `shapes` with tangents in their first `k` rows against libtorch's forward mode.
pub fn agrees(shapes: &[Vec<i64>], k: i64, rule: impl Fn(&[Dual]) -> Dual) {
    let draw = |seed: u64| -> Vec<Tensor> {
        (seed..)
            .zip(shapes)
            .map(|(seed, shape)| normal(seed, shape))
            .collect()
    };
    let (primals, tangents) = (draw(0), draw(100));
    let duals: Vec<Dual> = primals
        .iter()
        .zip(&tangents)
        .map(|(x, dx)| Dual::new(x.shallow_clone(), dx.narrow(0, 0, k)).unwrap())
        .collect();
    let (primal, tangent) = rule(&duals).into_parts();
    let plain = |x: &[Tensor]| {
        let plain: Vec<Dual> = x.iter().map(|x| x.shallow_clone().into()).collect();
        vec![rule(&plain).into_parts().0]
    };
    let (values, derivatives) = jvp(plain, &primals, &tangents).unwrap();
    assert!(relative(&primal, &values[0]) < EXACT);
    assert!(relative(&tangent.unwrap(), &derivatives[0].narrow(0, 0, k)) < EXACT);
}
