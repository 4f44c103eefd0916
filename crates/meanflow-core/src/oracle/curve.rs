//! Functions of time, with slopes and chords that do not lose digits.

use num_dual::Dual;

use crate::scalar::Scalar;
use crate::schedule::Schedule;

/// A function of time.
pub(super) trait Curve {
    /// `f(t)`.
    fn at<D: Scalar>(&self, t: D) -> D;

    /// Whether `f` has a Taylor series at every `t` of [0, 1].
    fn is_analytic(&self) -> bool;

    /// `f'(t)`.
    fn slope<D: Scalar>(&self, t: D) -> D {
        self.at(Dual::new(t, D::from(1.0))).eps
    }

    /// `(f(t) − f(r))/(t − r)`, and its limit `f'(t)` at `r = t`.
    ///
    /// Between near times the difference cancels, so there it is the mean of `f'` by five-point Gauss quadrature, exact
    /// to rounding on intervals of 1/32. A curve that is not analytic at 0 needs `r` near to `t` relative to `t`; nearer
    /// to 0 the quotient is left with an error of 10⁻¹⁶/(t − r).
    fn chord<D: Scalar>(&self, r: D, t: D) -> D {
        let length = t - r;
        let reach = if self.is_analytic() { 1.0 } else { t.re() };
        if length.re() > NEAR * reach {
            return (self.at(t) - self.at(r)) / length;
        }
        GAUSS
            .iter()
            .map(|&(node, weight)| self.slope(r + length * node) * weight)
            .sum()
    }
}

/// Below this length quadrature takes over; the quotient's error there is 32 roundings.
const NEAR: f64 = 1.0 / 32.0;

/// Nodes and weights of Gauss–Legendre quadrature on [0, 1], of degree 9.
const GAUSS: [(f64, f64); 5] = [
    (0.046_910_077_030_668_004, 0.118_463_442_528_094_54),
    (0.230_765_344_947_158_45, 0.239_314_335_249_683_23),
    (0.5, 0.284_444_444_444_444_44),
    (0.769_234_655_052_841_5, 0.239_314_335_249_683_23),
    (0.953_089_922_969_332, 0.118_463_442_528_094_54),
];

/// The share of the data, `a(t)`.
pub(super) struct DataShare<'a>(pub(super) &'a Schedule);

impl Curve for DataShare<'_> {
    fn at<D: Scalar>(&self, t: D) -> D {
        self.0.a(t)
    }

    fn is_analytic(&self) -> bool {
        self.0.is_analytic()
    }
}

/// `S(t)² = a² s² + b²`, the variance of `z_t` for data of standard deviation `s`.
pub(super) struct Variance<'a> {
    /// The path.
    pub(super) schedule: &'a Schedule,
    /// The standard deviation of the data.
    pub(super) std: f64,
}

impl Curve for Variance<'_> {
    fn at<D: Scalar>(&self, t: D) -> D {
        let data = self.schedule.a(t) * self.std;
        data * data + self.schedule.noise_variance(t)
    }

    fn is_analytic(&self) -> bool {
        self.schedule.is_analytic()
    }
}
