//! Mean and covariance of a set of features, checked once.

use tch::{Device, Kind, Tensor};

use crate::{EvalError, Moments, frechet, matrix};

/// How far a stored covariance may be from symmetric, relative to its largest element: rounding in f32.
const ASYMMETRY: f64 = 1e-5;

/// A mean `[D]` and a covariance `[D, D]`, finite and symmetric, in f64 on the CPU.
///
/// The covariance of fewer samples than features is kept as what it is made of, so that `D²` numbers are never there.
#[derive(Debug)]
pub struct Statistics {
    mean: Tensor,
    spread: Spread,
}

#[derive(Debug)]
enum Spread {
    /// The covariance, `[D, D]`.
    Covariance(Tensor),
    /// Centred samples over the root of `N − 1`, `[N, D]`: the covariance is `RᵀR`.
    Rows(Tensor),
}

impl Statistics {
    /// Checks a mean and a covariance of any float type, and takes the symmetric part of the latter.
    ///
    /// # Errors
    /// [`EvalError::Shape`], or [`EvalError::Covariance`] for one that is infinite, far from symmetric or has a negative
    /// variance.
    pub fn new(mean: &Tensor, covariance: &Tensor) -> Result<Self, EvalError> {
        let (mean, covariance) = (matrix::wide(mean), matrix::wide(covariance));
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
        let spread = Spread::Covariance((&covariance + covariance.tr()) * 0.5);
        Ok(Self { mean, spread })
    }

    /// Of features `[N, D]` that are all there; divided by `N − 1`. Memory is that of the smaller of `[N, D]` and `[D, D]`, in f64.
    ///
    /// # Errors
    /// As [`Moments::update`] and [`Moments::compute`].
    pub fn of(features: &Tensor) -> Result<Self, EvalError> {
        matrix::check("features", features)?;
        let [count, dims] = [features.size()[0], features.size()[1]];
        if count < dims {
            return Self::of_few(features);
        }
        let mut moments = Moments::new(dims);
        moments.update(features)?;
        moments.compute()
    }

    /// Of fewer samples than features.
    fn of_few(features: &Tensor) -> Result<Self, EvalError> {
        matrix::at_least("covariance", 2, features)?;
        let mut rows = Tensor::empty(features.size(), (Kind::Double, Device::Cpu));
        rows.copy_(features);
        let mean = rows.mean_dim(0, false, None::<Kind>);
        rows -= &mean;
        rows /= ((features.size()[0] - 1) as f64).sqrt();
        let spread = Spread::Rows(rows);
        Ok(Self { mean, spread })
    }

    /// Numbers a sample.
    pub fn dims(&self) -> i64 {
        self.mean.size()[0]
    }

    /// `[D]`
    pub fn mean(&self) -> &Tensor {
        &self.mean
    }

    /// The covariance, `[D, D]`; of fewer samples than features it is made only here.
    pub fn covariance(&self) -> Tensor {
        match &self.spread {
            Spread::Covariance(covariance) => covariance.shallow_clone(),
            Spread::Rows(rows) => rows.tr().matmul(rows),
        }
    }

    /// The sum of all variances.
    pub(crate) fn trace(&self) -> f64 {
        let total = match &self.spread {
            Spread::Covariance(covariance) => covariance.diag(0).sum(Kind::Double),
            Spread::Rows(rows) => rows.square().sum(Kind::Double),
        };
        total.double_value(&[])
    }

    /// `F` of `[k, D]`, with `k` at most `D`, whose product `FᵀF` is the covariance.
    ///
    /// # Errors
    /// [`EvalError::Covariance`] for a matrix with an eigenvalue clearly below zero; [`EvalError::Torch`].
    pub(crate) fn factor(&self) -> Result<Tensor, EvalError> {
        match &self.spread {
            Spread::Covariance(covariance) => Ok(frechet::root(covariance)?.tr()),
            Spread::Rows(rows) => Ok(rows.shallow_clone()),
        }
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
