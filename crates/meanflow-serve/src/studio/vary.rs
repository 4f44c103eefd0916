//! Pictures like a given one.

use std::f64::consts::FRAC_PI_2;

use meanflow_core::FixedPoint;
use meanflow_torch::sampler::{from_noise, invert, noise, uniform_grid};
use meanflow_torch::{Tensor, recover};
use meanflow_train::Samples;

use super::Served;
use crate::api::ApiError;

/// How near the noise of a picture has to lead to it, and after how many evaluations it is taken as it is.
const INVERSION: FixedPoint = FixedPoint {
    tolerance: 1e-4,
    max_evaluations: 60,
};

impl Served {
    /// The picture drawn again from the noise that is found for it, then one variation for each seed: its noise `e` turned towards that of
    /// the seed, `cos(½πs) e + sin(½πs) e'`, which is as normal as both are. Strength 0 is the picture, 1 the sample of the seed.
    /// With them, how far the noise found misses the picture.
    pub(super) fn vary(
        &self,
        picture: &[f32],
        class: Option<i64>,
        (strength, seeds): (f64, &[u64]),
        steps: usize,
    ) -> Result<(Samples, f64), ApiError> {
        let model = &self.model;
        let shape = &model.config().shape;
        let (grid, rows) = (uniform_grid(steps), seeds.len() as i64 + 1);
        let one: Vec<i64> = std::iter::once(1).chain(shape.iter().copied()).collect();
        let given = Tensor::from_slice(picture)
            .reshape(&one)
            .to_device(model.device());
        let label = class.as_ref().map(std::slice::from_ref);
        let found = recover("invert a picture", || {
            invert(model, &given, label, &grid, INVERSION)
        })?;
        let all = recover("vary a picture", || {
            let angle = strength * FRAC_PI_2;
            let own = noise(seeds, shape).to_device(model.device());
            let turned = &found.noise * angle.cos() + own * angle.sin();
            let all = Tensor::cat(&[&found.noise, &turned], 0);
            let labels = class.map(|class| vec![class; rows as usize]);
            from_noise(model, &all, labels.as_deref(), &grid)
        })?;
        let residual = found.residuals.first().copied().unwrap_or(f64::NAN);
        Ok((Samples::from_tensor(model, &all)?, residual))
    }
}
