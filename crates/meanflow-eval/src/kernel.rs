//! Kernel distance (KID): how unlike two sets of features look to a polynomial kernel.

use meanflow_core::{Purpose, RngStream};
use tch::{Kind, Tensor};

use crate::{EvalError, Spread, matrix};

/// Which subsets of the samples the estimate is averaged over.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct KernelSubsets {
    /// How many; 100 in most publications.
    pub subsets: u64,
    /// Samples of either set in each; 1000 in most publications.
    pub size: u64,
    /// Fixes which samples.
    pub seed: u64,
}

/// The squared maximum mean discrepancy under `(x·y / D + 1)³` (Bińkowski et al. 2018, arXiv:1801.01401), averaged over
/// random subsets drawn without replacement.
///
/// The subset of a number depends on the seed and the sizes of the sets alone.
///
/// # Errors
/// [`EvalError::TooFew`] if a subset is larger than a set, has fewer than two samples, or there is no subset;
/// [`EvalError::Shape`]; [`EvalError::NotFinite`].
pub fn kernel_distance(
    generated: &Tensor,
    real: &Tensor,
    subsets: &KernelSubsets,
) -> Result<Spread, EvalError> {
    let (x, y) = matrix::checked_pair(generated, real)?;
    let too_few = |what, needed, got| Err(EvalError::TooFew { what, needed, got });
    if subsets.subsets == 0 {
        return too_few("subsets of the kernel distance", 1, 0);
    }
    if subsets.size < 2 {
        return too_few("a subset of the kernel distance", 2, subsets.size);
    }
    matrix::at_least("kernel distance, generated", subsets.size, &x)?;
    matrix::at_least("kernel distance, real", subsets.size, &y)?;
    let values = (0..subsets.subsets).map(|subset| {
        let mut stream = RngStream::new(subsets.seed, Purpose::Subsets, subset);
        let mut draw = |rows: &Tensor| {
            let mut indices: Vec<i64> = (0..rows.size()[0]).collect();
            stream.shuffle(&mut indices);
            rows.index_select(0, &Tensor::from_slice(&indices[..subsets.size as usize]))
        };
        let (x, y) = (draw(&x), draw(&y));
        discrepancy(&x, &y)
    });
    Ok(Spread::of(values.collect()))
}

/// The same of one subset: the first `min(N_generated, N_real)` samples of each set.
///
/// # Errors
/// [`EvalError::TooFew`] below two samples; [`EvalError::Shape`]; [`EvalError::NotFinite`].
///
/// ```
/// use meanflow_eval::kernel_distance_of;
/// use meanflow_torch::Tensor;
///
/// // Features of one number, of two samples each; over (x·y + 1)³ by hand.
/// let column = |values: &[f64]| Tensor::from_slice(values).reshape([-1, 1]);
/// let distance = kernel_distance_of(&column(&[0.0, 1.0]), &column(&[0.0, 1.0]))?;
/// assert!((distance - (1.0 + 1.0 - 0.5 * (1.0 + 1.0 + 1.0 + 8.0))).abs() < 1e-12);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn kernel_distance_of(generated: &Tensor, real: &Tensor) -> Result<f64, EvalError> {
    let (x, y) = matrix::checked_pair(generated, real)?;
    let size = x.size()[0].min(y.size()[0]);
    let (x, y) = (x.narrow(0, 0, size), y.narrow(0, 0, size));
    matrix::at_least("kernel distance", 2, &x)?;
    Ok(discrepancy(&x, &y))
}

/// Of `m` samples each: the means of the kernel over pairs within `x` and within `y`, without a sample's pair with
/// itself, minus twice that over all pairs between them.
///
/// The pairs between them keep `(xᵢ, yᵢ)`, as torch-fidelity and the original code have it; without them it is another
/// estimator.
fn discrepancy(x: &Tensor, y: &Tensor) -> f64 {
    let [m, dims] = [x.size()[0], x.size()[1]].map(|size| size as f64);
    let kernel = |a: &Tensor, b: &Tensor| (a.matmul(&b.tr()) / dims + 1.0).pow_tensor_scalar(3);
    let total = |k: &Tensor| k.sum(Kind::Double).double_value(&[]);
    let within = |k: &Tensor| (total(k) - total(&k.diag(0))) / (m * (m - 1.0));
    within(&kernel(x, x)) + within(&kernel(y, y)) - 2.0 * total(&kernel(x, y)) / (m * m)
}
