//! Precision and recall: how many samples look real, and how much of what is real can be a sample.

use tch::{Device, Kind, Tensor};

use crate::distances::Points;
use crate::{EvalError, matrix};

/// Precision and recall of generated samples, each between 0 and 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PrecisionRecall {
    /// Share of the generated samples that lie in the manifold of the real ones.
    pub precision: f64,
    /// Share of the real samples that lie in the manifold of the generated ones.
    pub recall: f64,
}

impl PrecisionRecall {
    /// The harmonic mean of the two; 0 if both are.
    pub fn f_score(&self) -> f64 {
        2.0 * self.precision * self.recall / (self.precision + self.recall).max(1e-5)
    }
}

/// Improved precision and recall (Kynkäänniemi et al. 2019, arXiv:1904.06991).
///
/// The manifold of a set is the union of closed balls around its samples that reach to their `k`-th nearest neighbour in
/// the set, themselves not counted; 3 is usual. Distances are f64: in f32, many a sample on the rim of a ball changes sides.
///
/// # Errors
/// [`EvalError::TooFew`] unless either set has more than `k` samples, or for `k = 0`; [`EvalError::Shape`];
/// [`EvalError::NotFinite`].
///
/// ```
/// use meanflow_eval::precision_recall;
/// use meanflow_torch::Tensor;
///
/// let column = |values: &[f64]| Tensor::from_slice(values).reshape([-1, 1]);
/// // The samples are among the data; half of the data is far from them.
/// let (samples, data) = (column(&[0.0, 1.0]), column(&[0.0, 1.0, 50.0, 51.0]));
/// let found = precision_recall(&samples, &data, 1)?;
/// assert_eq!((found.precision, found.recall), (1.0, 0.5));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn precision_recall(
    generated: &Tensor,
    real: &Tensor,
    k: u64,
) -> Result<PrecisionRecall, EvalError> {
    let (generated, real) = matrix::checked_pair(generated, real)?;
    if k == 0 {
        let (what, needed, got) = ("neighbours of precision and recall", 1, 0);
        return Err(EvalError::TooFew { what, needed, got });
    }
    let needed = k.saturating_add(1);
    matrix::at_least("precision and recall, generated", needed, &generated)?;
    matrix::at_least("precision and recall, real", needed, &real)?;
    let origin = real.mean_dim(0, false, None::<Kind>);
    let (generated, real) = (
        Points::new(&generated, &origin),
        Points::new(&real, &origin),
    );
    Ok(PrecisionRecall {
        precision: share_inside(&generated, &real, k),
        recall: share_inside(&real, &generated, k),
    })
}

/// The share of `points` in the manifold of `set`.
fn share_inside(points: &Points, set: &Points, k: u64) -> f64 {
    let radii = squared_radii(set, k as i64);
    let mut inside = 0;
    points.blocks(set, |_, distances| {
        let hit = distances.le_tensor(&radii).any_dim(1, false);
        inside += hit.sum(Kind::Int64).int64_value(&[]);
    });
    inside as f64 / points.count() as f64
}

/// The squared distance of every point to its `k`-th nearest other one, `[N]`.
fn squared_radii(set: &Points, k: i64) -> Tensor {
    let radii = Tensor::zeros([set.count()], (Kind::Double, Device::Cpu));
    set.blocks(set, |start, distances| {
        // Equal points are at distance zero from each other, so the point itself is one of the zeros.
        let (values, _) = distances.kthvalue(k + 1, 1, false);
        radii.narrow(0, start, values.size()[0]).copy_(&values);
    });
    radii
}
