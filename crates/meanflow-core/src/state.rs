//! `State`: a batch of samples as a vector space, scaled sample by sample.

use ndarray::{Array, Axis, Dimension, RemoveAxis};
use num_dual::Dual64;

/// A batch of `B` samples: a vector space whose coefficients may differ from sample to sample.
///
/// Every formula of this crate is a linear combination with one coefficient per sample, so this is all it asks
/// of a number, an array or a tensor.
///
/// ```
/// use meanflow_core::State;
/// use ndarray::array;
///
/// let (x, e) = (array![[1.0, 2.0], [3.0, 4.0]], array![[10.0, 10.0], [20.0, 20.0]]);
/// // The first sample keeps its data, the second becomes noise.
/// let z = State::combine(&[(&[1.0, 0.0], &x), (&[0.0, 1.0], &e)]);
/// assert_eq!(z, array![[1.0, 2.0], [20.0, 20.0]]);
/// ```
pub trait State: Clone {
    /// Number of samples `B`.
    fn rows(&self) -> usize;

    /// `Σ_j c_j[i] · X_j[i]` for every sample `i`.
    ///
    /// Zero is a coefficient like any other: `0 · NaN` is NaN.
    ///
    /// # Shapes
    /// Every coefficient slice `[B]`, every state of one shape `[B, …]`.
    ///
    /// # Panics
    /// Without any term, or when shapes differ: a mistake of the caller, not of the data.
    fn combine(terms: &[(&[f64], &Self)]) -> Self;

    /// `c[i] · X[i]` for every sample `i`.
    fn scaled(&self, coefficients: &[f64]) -> Self {
        Self::combine(&[(coefficients, self)])
    }

    /// `Σ_j c_j · X_j`, the same coefficients for every sample.
    ///
    /// # Panics
    /// As [`State::combine`].
    fn uniform(terms: &[(f64, &Self)]) -> Self {
        let rows = terms.first().expect("a combination has a term").1.rows();
        let coefficients: Vec<Vec<f64>> = terms.iter().map(|(c, _)| vec![*c; rows]).collect();
        let pairs = coefficients.iter().zip(terms);
        let pairs: Vec<(&[f64], &Self)> = pairs.map(|(c, (_, x))| (&c[..], *x)).collect();
        Self::combine(&pairs)
    }
}

/// States with a size per sample: error control, residuals.
pub trait Norm: State {
    /// Mean of `x²` over the dimensions of each sample, `[B]`.
    fn mean_squares(&self) -> Vec<f64>;
}

/// One sample of one dimension.
impl State for f64 {
    fn rows(&self) -> usize {
        1
    }

    fn combine(terms: &[(&[f64], &Self)]) -> Self {
        assert!(!terms.is_empty(), "a combination has a term");
        let scaled = |(c, x): &(&[f64], &Self)| {
            assert_eq!(c.len(), 1, "coefficients of a single sample");
            c[0] * *x
        };
        terms.iter().map(scaled).sum()
    }
}

impl Norm for f64 {
    fn mean_squares(&self) -> Vec<f64> {
        vec![self * self]
    }
}

/// Axis 0 counts the samples.
impl<D: Dimension + RemoveAxis> State for Array<f64, D> {
    fn rows(&self) -> usize {
        self.len_of(Axis(0))
    }

    fn combine(terms: &[(&[f64], &Self)]) -> Self {
        let (_, first) = terms.first().expect("a combination has a term");
        let mut sum = Self::zeros(first.raw_dim());
        for (c, x) in terms {
            assert_eq!(x.raw_dim(), first.raw_dim(), "states of one shape");
            assert_eq!(c.len(), State::rows(*x), "one coefficient per sample");
            for ((mut row, term), &c) in sum.outer_iter_mut().zip(x.outer_iter()).zip(*c) {
                row.scaled_add(c, &term);
            }
        }
        sum
    }
}

impl<D: Dimension + RemoveAxis> Norm for Array<f64, D> {
    fn mean_squares(&self) -> Vec<f64> {
        self.outer_iter()
            .map(|row| row.fold(0.0, |sum, x| sum + x * x) / row.len().max(1) as f64)
            .collect()
    }
}

/// One sample of one dimension with its derivative: a solver that carries it differentiates the solution.
impl State for Dual64 {
    fn rows(&self) -> usize {
        1
    }

    fn combine(terms: &[(&[f64], &Self)]) -> Self {
        let part = |of: fn(&Self) -> &f64| {
            let parts: Vec<(&[f64], &f64)> = terms.iter().map(|(c, x)| (*c, of(x))).collect();
            f64::combine(&parts)
        };
        Self::new(part(|x| &x.re), part(|x| &x.eps))
    }
}

/// The derivative counts like the value, so that error control covers it.
impl Norm for Dual64 {
    fn mean_squares(&self) -> Vec<f64> {
        vec![self.re * self.re + self.eps * self.eps]
    }
}
