//! The numbers that formulas of time take.

use num_dual::DualNum;

/// A number over f64 that may carry derivatives: f64 itself, or the dual numbers of [`num_dual`].
pub trait Scalar: Copy + DualNum<Primitive = f64> {}

impl<D: Copy + DualNum<Primitive = f64>> Scalar for D {}
