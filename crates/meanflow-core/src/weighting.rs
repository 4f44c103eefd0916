//! The adaptive weight of a sample's loss; whether the loss is a sum or a mean is in its name.

use serde::{Deserialize, Serialize};

use crate::error::{CoreError, not_negative, positive};

/// How the squared errors of the dimensions of one sample become its loss.
///
/// The offset `c` of [`AdaptiveWeight`] has the size of that loss, so the same `c` means another weight under the
/// other reduction: the official codes take the sum.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reduction {
    /// `Σ_d x_d²`.
    Sum,
    /// `1/D Σ_d x_d²`.
    Mean,
}

impl Reduction {
    /// The factor on the sum of `dims` squares: 1 or `1/dims`.
    pub fn factor(self, dims: usize) -> f64 {
        match self {
            Self::Sum => 1.0,
            Self::Mean => 1.0 / dims as f64,
        }
    }
}

/// The weight `(L + c)^−p` of a sample with loss `L` (Geng et al. 2025, section 4.3).
///
/// The gradient does not go through it. With `p = 1` the weighted loss `L/(L+c)` is nearly 1 whatever the network
/// does: watch `v_loss`, the error of the velocity. With `p = 0` the weight is 1.
///
/// ```
/// use meanflow_core::{AdaptiveWeight, Reduction};
///
/// let weight = AdaptiveWeight::new(1.0, 0.01, Reduction::Sum)?;
/// assert_eq!(weight.weight(&0.49), 2.0);
/// # Ok::<(), meanflow_core::CoreError>(())
/// ```
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[serde(try_from = "RawWeight")]
pub struct AdaptiveWeight {
    /// The power `p`.
    pub norm_p: f64,
    /// The offset `c`.
    pub norm_eps: f64,
    /// What `L` is.
    pub reduction: Reduction,
}

/// What the formula of the weight needs of the losses of a batch: a number, a vector, a tensor downstream.
pub trait Elementwise: Sized {
    /// `x + c` for every element.
    fn add_scalar(&self, c: f64) -> Self;
    /// `x^p` for every element.
    fn powf(&self, p: f64) -> Self;
}

impl AdaptiveWeight {
    /// A weight, checked as by [`AdaptiveWeight::validate`].
    ///
    /// # Errors
    /// If `norm_p` or `norm_eps` is out of range.
    pub fn new(norm_p: f64, norm_eps: f64, reduction: Reduction) -> Result<Self, CoreError> {
        let weight = Self {
            norm_p,
            norm_eps,
            reduction,
        };
        weight.validate().map(|()| weight)
    }

    /// `(L + c)^−p` for the loss of every sample.
    pub fn weight<L: Elementwise>(&self, loss: &L) -> L {
        loss.add_scalar(self.norm_eps).powf(-self.norm_p)
    }

    /// # Errors
    /// Unless `norm_p` is finite and not negative, and `norm_eps` finite and positive: with `c = 0` a sample
    /// without error has an infinite weight.
    pub fn validate(&self) -> Result<(), CoreError> {
        not_negative("loss.norm_p", self.norm_p)?;
        positive("loss.norm_eps", self.norm_eps)
    }
}

impl Elementwise for f64 {
    fn add_scalar(&self, c: f64) -> Self {
        self + c
    }

    fn powf(&self, p: f64) -> Self {
        f64::powf(*self, p)
    }
}

impl Elementwise for Vec<f64> {
    fn add_scalar(&self, c: f64) -> Self {
        self.iter().map(|x| x + c).collect()
    }

    fn powf(&self, p: f64) -> Self {
        self.iter().map(|x| x.powf(p)).collect()
    }
}

/// The weight as written, before it is checked.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawWeight {
    norm_p: f64,
    norm_eps: f64,
    reduction: Reduction,
}

impl TryFrom<RawWeight> for AdaptiveWeight {
    type Error = CoreError;

    fn try_from(raw: RawWeight) -> Result<Self, CoreError> {
        Self::new(raw.norm_p, raw.norm_eps, raw.reduction)
    }
}
