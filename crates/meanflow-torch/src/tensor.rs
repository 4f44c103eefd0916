//! Batches of samples on libtorch: the only place that broadcasts per-sample numbers against samples.

use meanflow_core::weighting::Elementwise;
use meanflow_core::{Norm, State};
use tch::{Kind, Tensor};

use crate::host;
use meanflow_libtorch::done;

/// A tensor whose first dimension counts samples, `[B, …]`: the [`State`] of networks.
#[derive(Debug)]
pub struct Rows(pub Tensor);

impl Clone for Rows {
    fn clone(&self) -> Self {
        Self(self.0.shallow_clone())
    }
}

impl State for Rows {
    fn rows(&self) -> usize {
        self.0.size()[0] as usize
    }

    fn combine(terms: &[(&[f64], &Self)]) -> Self {
        let mut sum: Option<Tensor> = None;
        for (coefficients, Self(x)) in terms {
            sum = Some(match (sum, constant(coefficients)) {
                (None, Some(1.0)) => x.shallow_clone(),
                (None, Some(c)) => x * c,
                (None, None) => x * column(&per_row(coefficients, x), x),
                (Some(sum), Some(1.0)) => sum + x,
                (Some(sum), Some(c)) => sum + x * c,
                (Some(sum), None) => sum.addcmul(&column(&per_row(coefficients, x), x), x),
            });
        }
        Self(sum.expect("a combination has a term"))
    }
}

/// One wait for the device, however many rows there are.
impl Norm for Rows {
    fn mean_squares(&self) -> Vec<f64> {
        let dims = self.0.numel() as f64 / self.0.size()[0] as f64;
        done(host::read(
            &(squared_norms(&self.0.to_kind(Kind::Double)) / dims),
        ))
    }
}

/// The number that all rows share, if they do.
fn constant(coefficients: &[f64]) -> Option<f64> {
    let first = *coefficients.first()?;
    coefficients.iter().all(|c| *c == first).then_some(first)
}

/// One number a row, `[B]`, in the type and on the device of `like`.
pub fn per_row(values: &[f64], like: &Tensor) -> Tensor {
    host::send(
        &Tensor::from_slice(values).to_kind(like.kind()),
        like.device(),
    )
}

/// [`State::combine`] with the coefficients on the device, `[B]` each.
pub(crate) fn combination(terms: &[(&Tensor, &Tensor)]) -> Tensor {
    let ((first, x), rest) = terms.split_first().expect("a combination has a term");
    rest.iter()
        .fold(*x * column(first, x), |sum, (coefficients, x)| {
            sum.addcmul(&column(coefficients, x), x)
        })
}

/// One number a row, `[B]`, shaped to broadcast against `like`: `[B, 1, …]`.
pub(crate) fn column(values: &Tensor, like: &Tensor) -> Tensor {
    let mut shape = vec![1; like.dim()];
    shape[0] = -1;
    values.reshape(shape)
}

/// The sum over all dimensions but the first of `x²`, `[B]`.
pub fn squared_norms(x: &Tensor) -> Tensor {
    x.flatten(1, -1)
        .square()
        .sum_dim_intlist(-1, false, None::<Kind>)
}

/// A number a row, `[B]`, for the formulas of meanflow-core.
#[derive(Debug)]
pub struct PerRow(pub Tensor);

impl Elementwise for PerRow {
    fn add_scalar(&self, c: f64) -> Self {
        Self(&self.0 + c)
    }

    fn powf(&self, p: f64) -> Self {
        Self(self.0.pow_tensor_scalar(p))
    }
}
