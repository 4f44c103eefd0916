//! Mean and covariance of features that come in batches and shards, and are never all there.

use tch::{Device, Kind, Tensor};

use crate::error::libtorch;
use crate::part::{Named, PartFile};
use crate::{EvalError, Statistics, matrix};

/// Rows widened to f64 at a time, so that there is never a wide copy of all.
const ROWS: i64 = 1024;
/// Rows of the scatter that one product makes, up to its diagonal: half the work of a product that knows no symmetry.
const PANEL: i64 = 256;

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
/// moments.update(&Tensor::from_slice(&[1.0, 2.0]).reshape([2, 1]))?;
/// moments.update(&Tensor::from_slice(&[6.0]).reshape([1, 1]))?;
/// let statistics = moments.compute()?;
/// assert_eq!((moments.count(), statistics.mean().double_value(&[0])), (3, 3.0));
/// assert_eq!(statistics.covariance().double_value(&[0, 0]), 7.0);
/// # Ok::<(), meanflow_eval::EvalError>(())
/// ```
#[derive(Debug)]
pub struct Moments {
    count: u64,
    mean: Tensor,
    /// Its lower triangle; what stands above is of no meaning.
    lower: Tensor,
}

impl Moments {
    /// Of no rows yet, `dims` numbers each.
    pub fn new(dims: i64) -> Self {
        Self {
            count: 0,
            mean: Tensor::zeros([dims], (Kind::Double, Device::Cpu)),
            lower: Tensor::zeros([dims, dims], (Kind::Double, Device::Cpu)),
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
    pub fn update(&mut self, features: &Tensor) -> Result<(), EvalError> {
        matrix::check("features", features)?;
        self.same_width(&features.size())?;
        let count = features.size()[0];
        if count == 0 {
            return Ok(());
        }
        let parts = features.split(ROWS, 0);
        let sum: Tensor = parts
            .iter()
            .map(|part| matrix::wide(part).sum_dim_intlist(0, false, None::<Kind>))
            .sum();
        let mean = sum / count as f64;
        self.shift(count as u64, &mean);
        for part in parts {
            self.add_centred(&(matrix::wide(&part) - &mean))?;
        }
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
            self.lower += &other.lower;
        }
        Ok(())
    }

    /// Mean and covariance, divided by `count − 1`.
    ///
    /// # Errors
    /// [`EvalError::TooFew`] below two rows.
    pub fn compute(&self) -> Result<Statistics, EvalError> {
        if self.count < 2 {
            return Err(EvalError::TooFew {
                what: "covariance",
                needed: 2,
                got: self.count,
            });
        }
        let covariance = self.scatter() / (self.count - 1) as f64;
        Statistics::new(&self.mean, &covariance)
    }

    /// As tensors of a [`PartFile`], under names that begin with `name`.
    pub fn state(&self, name: &str) -> Named {
        let named = |part: &str, tensor: &Tensor| (format!("{name}.{part}"), tensor.copy());
        vec![
            named("count", &Tensor::from_slice(&[self.count as i64])),
            named("mean", &self.mean),
            named("scatter", &self.scatter()),
        ]
    }

    /// Takes out of a file what [`Moments::state`] put into it.
    ///
    /// # Errors
    /// [`EvalError::File`] if the tensors are not there, or the moments of nothing.
    pub fn load(file: &mut PartFile, name: &str) -> Result<Self, EvalError> {
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
            lower: scatter,
        })
    }

    /// Both triangles.
    fn scatter(&self) -> Tensor {
        self.lower.tril(0) + self.lower.tril(-1).tr()
    }

    /// Adds the scatter of rows around zero, panel by panel.
    fn add_centred(&mut self, rows: &Tensor) -> Result<(), EvalError> {
        for start in (0..self.dims()).step_by(PANEL as usize) {
            let length = PANEL.min(self.dims() - start);
            let columns = rows.narrow(1, start, length).tr();
            let _ = self
                .lower
                .narrow(0, start, length)
                .narrow(1, 0, start + length)
                .f_addmm_(&columns, &rows.narrow(1, 0, start + length))
                .map_err(libtorch("add to a covariance"))?;
        }
        Ok(())
    }

    /// Makes the mean that of the rows seen and of `count` more around `mean`, whose own scatter is still to be added.
    fn shift(&mut self, count: u64, mean: &Tensor) {
        let (seen, more) = (self.count as f64, count as f64);
        let share = more / (seen + more);
        let distance = mean - &self.mean;
        self.lower += (&distance * (seen * share)).outer(&distance);
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
