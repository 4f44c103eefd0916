//! Pictures like a given one.

use meanflow_core::FixedPoint;
use meanflow_torch::sampler::{
    Edit, Inpainting, Solver, edit_noise, from_noise, inpaint, invert, uniform_grid,
};
use meanflow_torch::{Device, Tensor, TorchError, recover};
use meanflow_train::Samples;

use super::served::Served;
use crate::api_error::ApiError;

/// How near the noise of a picture has to lead to it, and after how many evaluations it is taken as it is.
const INVERSION: FixedPoint = FixedPoint {
    tolerance: 1e-4,
    max_nfe: 60,
};

impl Served {
    /// The picture drawn again from the noise that is found for it, then one variation of it for each seed (M23). Strength 0 is the picture,
    /// 1 the sample of the seed. With them, how far the noise found misses the picture.
    pub(super) fn vary(
        &self,
        picture: &[f32],
        class: Option<i64>,
        (strength, seeds): (f64, &[u64]),
        steps: usize,
    ) -> Result<(Samples, f64), ApiError> {
        let model = &self.model;
        let (grid, rows) = (uniform_grid(steps), seeds.len());
        let given = self.given(picture)?;
        let label = class.as_ref().map(std::slice::from_ref);
        let found = recover("invert a picture", || {
            invert(model, &given, label, &grid, INVERSION)
        })?;
        let again = from_noise(model, &found.noise, label, &grid)?;
        let labels = class.map(|class| vec![class; rows]);
        let request = Edit {
            strength,
            seeds,
            labels: labels.as_deref(),
            grid: &grid,
            batch_size: Samples::rows_an_evaluation(model),
        };
        let noises = found.noise.repeat_interleave_self_int(rows as i64, 0, None);
        let varied = edit_noise(model, &noises, &request, Solver::Jump)?.samples;
        let all = Tensor::cat(&[again.to_device(Device::Cpu), varied], 0);
        let residual = found.residuals.first().copied().unwrap_or(f64::NAN);
        Ok((Samples::from_tensor(model, &all)?, residual))
    }

    /// The picture with what the mask marks drawn anew, once for each seed (M24); all else stays as it is.
    pub(super) fn inpaint(
        &self,
        (picture, mask): (&[f32], &[bool]),
        class: Option<i64>,
        seeds: &[u64],
        steps: usize,
    ) -> Result<Samples, ApiError> {
        let (model, rows) = (&self.model, seeds.len());
        let labels = class.map(|class| vec![class; rows]);
        let request = Inpainting {
            seeds,
            labels: labels.as_deref(),
            grid: &uniform_grid(steps),
            batch_size: Samples::rows_an_evaluation(model),
        };
        let given = self.given(picture)?;
        // As high and wide as the picture, for all of its channels.
        let mut plane = model.config().shape.clone();
        plane[0] = 1;
        let mask = recover("read a mask", || {
            Ok::<_, TorchError>(Tensor::from_slice(mask).reshape(&plane).unsqueeze(0))
        })?;
        let all = given.repeat_interleave_self_int(rows as i64, 0, None);
        let drawn = inpaint(model, &all, &mask.to_device(model.device()), &request)?;
        Ok(Samples::from_tensor(model, &drawn.samples)?)
    }

    /// A picture as one row of the model.
    fn given(&self, picture: &[f32]) -> Result<Tensor, ApiError> {
        let shape = self.model.config().shape.iter().copied();
        let one: Vec<i64> = std::iter::once(1).chain(shape).collect();
        let device = self.model.device();
        let row =
            || Ok::<_, TorchError>(Tensor::from_slice(picture).reshape(&one).to_device(device));
        Ok(recover("read a picture", row)?)
    }
}
