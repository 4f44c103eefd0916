//! Fréchet distance of the Gaussians that two sets of features have the mean and covariance of.

use tch::{Kind, Tensor};

use crate::error::libtorch;
use crate::{EvalError, Statistics};

/// Below minus this share of the largest eigenvalue a matrix is no covariance: statistics saved in f32 stay above.
const NEGATIVE: f64 = 1e-4;
/// Pivots of Cholesky's triangle above this share of the largest are not of rounding: that would be the root of ε or less.
const FULL_RANK: f64 = 1e-6;

/// The squared distance `|μ₁ − μ₂|² + tr Σ₁ + tr Σ₂ − 2 tr (Σ₁ Σ₂)^½` (Heusel et al. 2017, arXiv:1706.08500).
///
/// Over features of Inception it is called FID, over spatial ones sFID. With `Σᵢ = Rᵢ Rᵢᵀ` the last trace is the sum of
/// the singular values of `R₁ᵀ R₂`. Of `N` samples, fewer than features, `R` is the centred samples themselves, so nothing of
/// `D × D` is made. No product of covariances is formed, whose eigenvalues have only half the digits and
/// are negative or complex where a covariance has no full rank; so no small number is added to any diagonal either. The
/// result is at least zero, and zero for equal statistics up to rounding.
///
/// # Errors
/// [`EvalError::Shape`] for different dimensions, [`EvalError::Covariance`] for a matrix with an eigenvalue clearly
/// below zero, [`EvalError::Torch`] if a decomposition does not converge.
pub fn frechet_distance(a: &Statistics, b: &Statistics) -> Result<f64, EvalError> {
    if a.dims() != b.dims() {
        return Err(EvalError::Shape {
            what: "mean",
            expected: format!("[{}]", a.dims()),
            got: b.mean().size(),
        });
    }
    let overlap = a.factor()?.matmul(&b.factor()?.tr());
    let (_, overlap, _) = overlap
        .f_svd(true, false)
        .map_err(libtorch("take singular values"))?;
    let total = |x: &Tensor| x.sum(Kind::Double).double_value(&[]);
    let shift = total(&(a.mean() - b.mean()).square());
    Ok((shift + a.trace() + b.trace() - 2.0 * total(&overlap)).max(0.0))
}

/// `R` with `covariance = R Rᵀ`: the triangle of Cholesky where the matrix is clearly of full rank, else by eigenvalues,
/// which take ten times as long.
pub(crate) fn root(covariance: &Tensor) -> Result<Tensor, EvalError> {
    let (triangle, failed) = covariance
        .f_linalg_cholesky_ex(false, false)
        .map_err(libtorch("factor a covariance"))?;
    let pivots = triangle.diag(0);
    let smallest = pivots.min().double_value(&[]) / pivots.max().double_value(&[]);
    if failed.int64_value(&[]) == 0 && smallest > FULL_RANK {
        return Ok(triangle);
    }
    root_by_eigenvalues(covariance)
}

/// `[D, rank]`: eigenvectors times the roots of their eigenvalues.
///
/// Eigenvalues below the rounding of the largest, `D ε λ`, are zero: the root of such noise would be 1e-8 and no noise.
fn root_by_eigenvalues(covariance: &Tensor) -> Result<Tensor, EvalError> {
    let (values, vectors) = covariance
        .f_linalg_eigh("L")
        .map_err(libtorch("take eigenvalues"))?;
    let (smallest, largest) = (
        values.min().double_value(&[]),
        values.max().double_value(&[]),
    );
    if smallest < -NEGATIVE * largest {
        return Err(EvalError::Covariance {
            problem: format!("indefinite: its eigenvalues go from {smallest:e} to {largest:e}"),
        });
    }
    let rounding = values.numel() as f64 * f64::EPSILON * largest;
    // In ascending order.
    let zeros = values.le(rounding).sum(Kind::Int64).int64_value(&[]);
    let rank = values.size()[0] - zeros;
    Ok(vectors.narrow(1, zeros, rank) * values.narrow(0, zeros, rank).sqrt())
}
