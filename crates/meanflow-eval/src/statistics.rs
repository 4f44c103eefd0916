//! Mean and covariance of a set of features, checked once.

use tch::{Device, Kind, Tensor};

use crate::{EvalError, Moments};

/// How far a stored covariance may be from symmetric, relative to its largest element: rounding in f32.
const ASYMMETRY: f64 = 1e-5;

/// A mean `[D]` and a covariance `[D, D]`, finite and symmetric, in f64 on the CPU.
#[derive(Debug)]
pub struct Statistics {
    mean: Tensor,
    covariance: Tensor,
}

impl Statistics {
    /// Checks a mean and a covariance of any float type, and takes the symmetric part of the latter.
    ///
    /// # Errors
    /// [`EvalError::Shape`], or [`EvalError::Covariance`] for one that is infinite, far from symmetric or has a negative
    /// variance.
    pub fn new(mean: &Tensor, covariance: &Tensor) -> Result<Self, EvalError> {
        let wide = |x: &Tensor| x.detach().to_device(Device::Cpu).to_kind(Kind::Double);
        let (mean, covariance) = (wide(mean), wide(covariance));
        let shape = |what, expected: String, got| {
            Err(EvalError::Shape {
                what,
                expected,
                got,
            })
        };
        if mean.dim() != 1 || mean.numel() == 0 {
            return shape("mean", "[D]".into(), mean.size());
        }
        let dims = mean.size()[0];
        if covariance.size() != [dims, dims] {
            return shape("covariance", format!("[{dims}, {dims}]"), covariance.size());
        }
        if !is_finite(&mean) || !is_finite(&covariance) {
            return refuse("not finite, or the mean is not");
        }
        let largest = covariance.abs().max();
        let asymmetry =
            (&covariance - covariance.tr()).abs().max() / largest.clamp_min(f64::MIN_POSITIVE);
        if asymmetry.double_value(&[]) > ASYMMETRY {
            return refuse("not symmetric");
        }
        if covariance.diag(0).min().double_value(&[]) < 0.0 {
            return refuse("negative on its diagonal");
        }
        let covariance = (&covariance + covariance.tr()) * 0.5;
        Ok(Self { mean, covariance })
    }

    /// Of features `[N, D]` that are all there; divided by `N − 1`.
    ///
    /// # Errors
    /// As [`Moments::push`] and [`Moments::statistics`].
    pub fn of(features: &Tensor) -> Result<Self, EvalError> {
        let mut moments = Moments::new(features.size().last().copied().unwrap_or(0));
        moments.push(features)?;
        moments.statistics()
    }

    /// Numbers a sample.
    pub fn dims(&self) -> i64 {
        self.mean.size()[0]
    }

    /// `[D]`
    pub fn mean(&self) -> &Tensor {
        &self.mean
    }

    /// `[D, D]`
    pub fn covariance(&self) -> &Tensor {
        &self.covariance
    }
}

fn is_finite(x: &Tensor) -> bool {
    x.sum(Kind::Double).double_value(&[]).is_finite()
}

fn refuse<T>(problem: &str) -> Result<T, EvalError> {
    Err(EvalError::Covariance {
        problem: problem.to_owned(),
    })
}
