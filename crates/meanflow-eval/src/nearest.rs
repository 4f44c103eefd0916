//! Nearest neighbours: whether samples are copies of the training set.

use tch::{Kind, Tensor};

use crate::distances::Points;
use crate::{EvalError, matrix};

/// The nearest samples of a set to each of some queries, nearest first.
#[derive(Clone, Debug, PartialEq)]
pub struct Neighbours {
    /// Which, `k` for every query.
    pub indices: Vec<Vec<i64>>,
    /// How far.
    pub distances: Vec<Vec<f64>>,
}

/// The `k` nearest of `base` to every row of `queries`, by Euclidean distance in f64, a block of queries at a time.
///
/// # Errors
/// [`EvalError::TooFew`] if `base` has fewer than `k` samples; [`EvalError::Shape`]; [`EvalError::NotFinite`].
pub fn nearest(queries: &Tensor, base: &Tensor, k: u64) -> Result<Neighbours, EvalError> {
    let (queries, base) = matrix::checked_pair(queries, base)?;
    matrix::at_least("nearest neighbours", k, &base)?;
    let origin = base.mean_dim(0, false, None::<Kind>);
    let (queries, base) = (Points::new(&queries, &origin), Points::new(&base, &origin));
    let (mut indices, mut distances) = (Vec::new(), Vec::new());
    queries.blocks(&base, |_, block| {
        let (values, places) = block.topk(k as i64, 1, false, true);
        let (values, count) = (values.sqrt(), values.size()[0]);
        let row = |row| (0..k as i64).map(move |column| [row, column]);
        for query in 0..count {
            indices.push(row(query).map(|at| places.int64_value(&at)).collect());
            distances.push(row(query).map(|at| values.double_value(&at)).collect());
        }
    });
    Ok(Neighbours { indices, distances })
}
