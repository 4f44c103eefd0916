//! Mean and covariance of features that come in batches and shards, and are never all there.

use std::collections::BTreeMap;
use std::path::Path;

use meanflow_torch::weights;
use tch::{Device, Kind, Tensor};

use crate::error::libtorch;
use crate::{EvalError, Statistics, matrix};

/// Count, mean `[D]` and scatter `Σ (x − mean)(x − mean)ᵀ` `[D, D]` of the rows seen so far, in f64.
///
/// Memory is `D²` numbers, however many rows come. Order and partition of the rows change nothing but rounding
/// (the pairwise update of Chan, Golub and LeVeque, 1983), so shards are merged in any order.
///
/// ```
/// use meanflow_eval::Moments;
/// use meanflow_torch::Tensor;
///
/// let mut moments = Moments::new(1);
/// moments.push(&Tensor::from_slice(&[1.0, 2.0]).reshape([2, 1]))?;
/// moments.push(&Tensor::from_slice(&[6.0]).reshape([1, 1]))?;
/// let statistics = moments.statistics()?;
/// assert_eq!((moments.count(), statistics.mean().double_value(&[0])), (3, 3.0));
/// assert_eq!(statistics.covariance().double_value(&[0, 0]), 7.0);
/// # Ok::<(), meanflow_eval::EvalError>(())
/// ```
#[derive(Debug)]
pub struct Moments {
    count: u64,
    mean: Tensor,
    scatter: Tensor,
}

/// The form of a file of moments.
const FORM: (&str, &str) = ("form", "meanflow-moments-1");

impl Moments {
    /// Of no rows yet, `dims` numbers each.
    pub fn new(dims: i64) -> Self {
        Self {
            count: 0,
            mean: Tensor::zeros([dims], (Kind::Double, Device::Cpu)),
            scatter: Tensor::zeros([dims, dims], (Kind::Double, Device::Cpu)),
        }
    }

    /// Rows seen.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Numbers a row.
    pub fn dims(&self) -> i64 {
        self.mean.size()[0]
    }

    /// Adds the rows of `[B, D]`; none at all is fine.
    ///
    /// # Errors
    /// [`EvalError::Shape`] for another width, [`EvalError::NotFinite`]; the moments are unchanged then.
    pub fn push(&mut self, features: &Tensor) -> Result<(), EvalError> {
        let rows = matrix::checked("features", features)?;
        self.same_width(&rows.size())?;
        let count = rows.size()[0];
        if count == 0 {
            return Ok(());
        }
        let mean = rows.mean_dim(0, false, None::<Kind>);
        let centred = rows - &mean;
        self.shift(count as u64, &mean);
        let failed = libtorch("add to a covariance");
        let _ = self
            .scatter
            .f_addmm_(&centred.tr(), &centred)
            .map_err(failed)?;
        Ok(())
    }

    /// Adds the rows that another shard has seen.
    ///
    /// # Errors
    /// [`EvalError::Shape`] for another width.
    pub fn merge(&mut self, other: &Self) -> Result<(), EvalError> {
        self.same_width(&other.mean.size())?;
        if other.count > 0 {
            self.shift(other.count, &other.mean);
            self.scatter += &other.scatter;
        }
        Ok(())
    }

    /// Mean and covariance, divided by `count − 1`.
    ///
    /// # Errors
    /// [`EvalError::TooFew`] below two rows.
    pub fn statistics(&self) -> Result<Statistics, EvalError> {
        if self.count < 2 {
            return Err(EvalError::TooFew {
                what: "covariance",
                needed: 2,
                got: self.count,
            });
        }
        let covariance = &self.scatter / (self.count - 1) as f64;
        Statistics::new(&self.mean, &covariance)
    }

    /// Writes what a shard has seen, whole or not at all.
    ///
    /// # Errors
    /// If the file system refuses.
    pub fn write(&self, path: &Path) -> Result<(), EvalError> {
        let named = |name: &str, tensor: &Tensor| (name.to_owned(), tensor.shallow_clone());
        let tensors = [
            named("count", &Tensor::from_slice(&[self.count as i64])),
            named("mean", &self.mean),
            named("scatter", &self.scatter),
        ];
        let form = BTreeMap::from([(FORM.0.to_owned(), FORM.1.to_owned())]);
        Ok(weights::save(path, &tensors, form)?)
    }

    /// Reads what [`Moments::write`] wrote.
    ///
    /// # Errors
    /// If the file is not of that form, or its numbers are the moments of nothing.
    pub fn read(path: &Path) -> Result<Self, EvalError> {
        let problem = |problem: &str| EvalError::File {
            path: path.to_owned(),
            problem: problem.to_owned(),
        };
        let header = weights::header(path)?;
        if header.metadata.get(FORM.0).map(String::as_str) != Some(FORM.1) {
            return Err(problem(
                "not a file of moments: expected form meanflow-moments-1",
            ));
        }
        let mut tensors = weights::read(path)?;
        let mut take = |name: &str, axes: usize, kind: Kind| {
            let tensor = tensors.remove(name);
            tensor
                .filter(|tensor| tensor.kind() == kind && tensor.dim() == axes)
                .ok_or_else(|| problem(&format!("{name}: expected {axes} axes of {kind:?}")))
        };
        let (count, mean) = (
            take("count", 1, Kind::Int64)?,
            take("mean", 1, Kind::Double)?,
        );
        let scatter = take("scatter", 2, Kind::Double)?;
        let dims = mean.size()[0];
        if count.numel() != 1 || dims == 0 || scatter.size() != [dims, dims] {
            let (count, scatter) = (count.size(), scatter.size());
            return Err(problem(&format!(
                "expected count [1], mean [D], scatter [D, D], got {count:?}, [{dims}], {scatter:?}"
            )));
        }
        let count = u64::try_from(count.int64_value(&[0]))
            .map_err(|_| problem("count: expected a number of rows, got a negative one"))?;
        let sums = &mean + scatter.sum_dim_intlist(1, false, None::<Kind>);
        if !sums.sum(Kind::Double).double_value(&[]).is_finite() {
            return Err(problem("mean, scatter: not finite"));
        }
        Ok(Self {
            count,
            mean,
            scatter,
        })
    }

    /// Makes the mean that of the rows seen and of `count` more around `mean`, whose own scatter is still to be added.
    fn shift(&mut self, count: u64, mean: &Tensor) {
        let (seen, more) = (self.count as f64, count as f64);
        let share = more / (seen + more);
        let distance = mean - &self.mean;
        self.scatter += (&distance * (seen * share)).outer(&distance);
        self.mean += distance * share;
        self.count += count;
    }

    /// Whether the last of these dimensions is ours.
    fn same_width(&self, size: &[i64]) -> Result<(), EvalError> {
        if size.last() == Some(&self.dims()) {
            return Ok(());
        }
        Err(EvalError::Shape {
            what: "features",
            expected: format!("[N, {}]", self.dims()),
            got: size.to_vec(),
        })
    }
}
