//! Mean and covariance of features that come in batches and shards, and are never all there.

use tch::{Device, Kind, Tensor};

use crate::error::libtorch;
use crate::part::{Named, PartFile};
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

    /// As tensors of a [`PartFile`], under names that begin with `name`.
    pub fn named(&self, name: &str) -> Named {
        let named = |part: &str, tensor: &Tensor| (format!("{name}.{part}"), tensor.copy());
        vec![
            named("count", &Tensor::from_slice(&[self.count as i64])),
            named("mean", &self.mean),
            named("scatter", &self.scatter),
        ]
    }

    /// Takes out of a file what [`Moments::named`] put into it.
    ///
    /// # Errors
    /// [`EvalError::File`] if the tensors are not there, or the moments of nothing.
    pub fn take(file: &mut PartFile, name: &str) -> Result<Self, EvalError> {
        let count = file.take_counts(&format!("{name}.count"), 1)?;
        let mean = file.take_sums(&format!("{name}.mean"), 1)?;
        let scatter = file.take_sums(&format!("{name}.scatter"), 2)?;
        let dims = mean.size()[0];
        if count.numel() != 1 || dims == 0 || scatter.size() != [dims, dims] {
            let (count, scatter) = (count.size(), scatter.size());
            return Err(file.problem(format!(
                "{name}: expected count [1], mean [D], scatter [D, D], got {count:?}, [{dims}], {scatter:?}"
            )));
        }
        Ok(Self {
            count: count.int64_value(&[0]) as u64,
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
