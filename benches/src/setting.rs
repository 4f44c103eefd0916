//! What the steps of all comparisons compute: the objective, and batches of random pictures.

use meanflow_cfg::Guidance;
use meanflow_core::random::{Purpose, RngStream};
use meanflow_core::{
    AdaptiveWeight, MaskOrder, MeanFlowRatio, Reduction, Schedule, TimeDistribution, TimeSampler,
};
use meanflow_torch::{Batch, Device, JvpMethod, Kind, Objective, Tensor};

use crate::Size;

/// The published loss: adaptive weight of power 1 and offset 0.01 over the sum of squares (Geng et al. 2025).
pub(crate) fn objective(guidance: Guidance, jvp: JvpMethod) -> Objective {
    Objective {
        schedule: Schedule::Linear,
        weight: AdaptiveWeight {
            norm_p: 1.0,
            norm_eps: 0.01,
            reduction: Reduction::Sum,
        },
        guidance,
        jvp,
    }
}

/// So many random pictures of a size, `[rows, C, H, W]`, and their classes. libtorch's generator begins anew.
pub(crate) fn pictures(size: &Size, rows: usize, device: Device) -> (Tensor, Vec<i64>) {
    let mut shape = vec![rows as i64];
    shape.extend(size.shape());
    tch::manual_seed(0);
    let data = Tensor::randn(shape, (Kind::Float, device));
    let labels = (0..rows as i64).map(|row| row % size.classes);
    (data, labels.collect())
}

/// The pictures with noise and the times of a step, with this share of MeanFlow rows; `dropped` have no class.
pub(crate) fn batch(
    (data, labels): &(Tensor, Vec<i64>),
    mean_flow_ratio: f64,
    step: u64,
    dropped: Vec<bool>,
) -> Batch {
    let law = TimeSampler {
        t: TimeDistribution::LogitNormal {
            mean: -0.4,
            std: 1.0,
        },
        r: None,
        mean_flow_ratio: MeanFlowRatio::Count(mean_flow_ratio),
        order: MaskOrder::AfterOrdering,
    };
    let mut random = RngStream::new(0, Purpose::Times, step);
    Batch {
        data: data.shallow_clone(),
        noise: data.randn_like(),
        labels: Some(labels.clone()),
        times: law.draw(labels.len(), &mut random),
        dropped,
        augment: None,
        dropout: None,
    }
}
