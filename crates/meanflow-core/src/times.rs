//! Laws of the times (r, t) of a training batch; the rows with `r < t` come first.

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};

use crate::error::{CoreError, check, finite, positive};
use crate::interval::Interval;
use crate::random::RngStream;

/// The law of (r, t) of a batch.
///
/// The official recipe: one law for both times, 25 % MeanFlow rows by count, masked after ordering. The CIFAR recipe
/// v1 of the PyTorch code: two laws, MeanFlow rows by chance, masked before ordering.
///
/// ```
/// use meanflow_core::{TimeSampler, MeanFlowRatio, MaskOrder, Purpose, RngStream, TimeDistribution};
///
/// let law = TimeSampler {
///     t: TimeDistribution::LogitNormal { mean: -0.4, std: 1.0 },
///     r: None,
///     mean_flow_ratio: MeanFlowRatio::Count(0.25),
///     order: MaskOrder::AfterOrdering,
/// };
/// let draw = law.draw(8, &mut RngStream::new(0, Purpose::Times, 0));
/// assert_eq!(draw.jumps, 2);
/// assert!(draw.intervals[..2].iter().all(|i| i.r() < i.t()));
/// assert!(draw.intervals[2..].iter().all(|i| i.r() == i.t()));
/// ```
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct TimeSampler {
    /// Law of `t`.
    pub t: TimeDistribution,
    /// Law of `r`; none: that of `t`, and the two draws are ordered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub r: Option<TimeDistribution>,
    /// Which rows keep `r < t`.
    pub mean_flow_ratio: MeanFlowRatio,
    /// When the other rows get `r = t`.
    pub order: MaskOrder,
}

/// The law of one time in [0, 1].
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[serde(
    tag = "kind",
    rename_all = "kebab-case",
    try_from = "RawTimeDistribution"
)]
pub enum TimeDistribution {
    /// Uniform on (0, 1).
    Uniform,
    /// `σ(mean + std · n)`, with `n` standard normal and `σ` the logistic function.
    LogitNormal {
        /// Mean of the logit.
        mean: f64,
        /// Standard deviation of the logit.
        std: f64,
    },
}

/// The ratio of MeanFlow rows, those with `r < t`, in [0, 1], and how it is drawn. The others are flow-matching rows, `r = t`.
///
/// Public codes count either kind of row: their 0.75 means both.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum MeanFlowRatio {
    /// In every batch of `B` rows the same number, `B − ⌊B (1 − ratio)⌋`, as the official JAX code counts.
    Count(#[serde(deserialize_with = "ratio")] f64),
    /// Each row on its own with this probability.
    Bernoulli(#[serde(deserialize_with = "ratio")] f64),
}

/// Whether `r := t` comes before or after the two draws are ordered.
///
/// With one law for both times: after ordering, the `t` of a flow-matching row is the larger of two draws; before it, a
/// single one.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum MaskOrder {
    /// `t, r := max, min` of the two draws, then `r := t` on the flow-matching rows.
    AfterOrdering,
    /// `r := t` on the flow-matching rows, then ordering: by max and min under one law; under two laws `r := min(t, r)`,
    /// which never moves `t` and makes a row with `r > t` a flow-matching row.
    BeforeOrdering,
}

/// The times of a batch.
#[derive(Clone, Debug, PartialEq)]
pub struct TimeDraw {
    /// One interval per row, the MeanFlow rows first.
    pub intervals: Vec<Interval>,
    /// Number of MeanFlow rows, which come first: all rows with `r < t`, and those that [`TimeDraw::padded`] counts beside them.
    pub jumps: usize,
}

impl TimeSampler {
    /// The times of a batch of `rows` samples.
    pub fn draw(&self, rows: usize, stream: &mut RngStream) -> TimeDraw {
        let pair = |_| {
            let t = self.t.sample(stream);
            (self.r.unwrap_or(self.t).sample(stream), t)
        };
        let pairs: Vec<(f64, f64)> = (0..rows).map(pair).collect();
        let rows = pairs.iter().zip(self.mean_flow_ratio.mask(rows, stream));
        TimeDraw::new(rows.map(|(&(r, t), jump)| self.place(r, t, jump)))
    }

    /// # Errors
    /// As of its parts.
    pub fn validate(&self) -> Result<(), CoreError> {
        self.t.validate()?;
        self.r.map_or(Ok(()), |r| r.validate())?;
        self.mean_flow_ratio.validate()
    }

    /// Orders and masks one row.
    fn place(&self, r: f64, t: f64, jump: bool) -> Interval {
        let (low, high) = match (self.order, self.r) {
            (MaskOrder::BeforeOrdering, _) if !jump => (t, t),
            (MaskOrder::BeforeOrdering, Some(_)) => (r.min(t), t),
            _ => (r.min(t), r.max(t)),
        };
        Interval::new(if jump { low } else { high }, high).expect("ordered times of [0, 1]")
    }
}

impl TimeDistribution {
    /// One time.
    pub fn sample(&self, stream: &mut RngStream) -> f64 {
        match *self {
            Self::Uniform => stream.uniform(),
            Self::LogitNormal { mean, std } => {
                1.0 / (1.0 + libm::exp(-(mean + std * stream.normal())))
            }
        }
    }

    /// # Errors
    /// Unless mean and standard deviation are finite and the latter is positive.
    pub fn validate(&self) -> Result<(), CoreError> {
        match *self {
            Self::Uniform => Ok(()),
            Self::LogitNormal { mean, std } => {
                finite("times.mean", mean)?;
                positive("times.std", std)
            }
        }
    }
}

impl MeanFlowRatio {
    /// The ratio of MeanFlow rows, in [0, 1].
    pub fn get(&self) -> f64 {
        let (Self::Count(ratio) | Self::Bernoulli(ratio)) = *self;
        ratio
    }

    /// The most MeanFlow rows that a batch of `rows` samples can have.
    pub fn most(&self, rows: usize) -> usize {
        match *self {
            // 10 · (1 − 0.9) is 0.99…98 in f64: an integer missed by rounding counts as reached.
            Self::Count(ratio) => {
                rows - ((rows as f64 * (1.0 - ratio) + 1e-9).floor() as usize).min(rows)
            }
            Self::Bernoulli(0.0) => 0,
            Self::Bernoulli(_) => rows,
        }
    }

    /// # Errors
    /// Unless the ratio is in [0, 1].
    pub fn validate(&self) -> Result<(), CoreError> {
        let (ratio, expected) = (self.get(), "a number in [0, 1]");
        let valid = (0.0..=1.0).contains(&ratio);
        check("times.mean_flow_ratio", expected, ratio, valid)
    }

    /// For every row whether it is to be a MeanFlow row.
    fn mask(&self, rows: usize, stream: &mut RngStream) -> Vec<bool> {
        match *self {
            Self::Count(_) => {
                let jumps = self.most(rows);
                (0..rows).map(|row| row < jumps).collect()
            }
            Self::Bernoulli(ratio) => (0..rows).map(|_| stream.uniform() < ratio).collect(),
        }
    }
}

impl TimeDraw {
    /// Puts the MeanFlow rows first, each kind in its order.
    fn new(intervals: impl Iterator<Item = Interval>) -> Self {
        let (mut intervals, flow): (Vec<_>, Vec<_>) = intervals.partition(Interval::is_jump);
        let jumps = intervals.len();
        intervals.extend(flow);
        Self { intervals, jumps }
    }

    /// Counts flow-matching rows as MeanFlow rows until there are `jumps`, or no more rows: the number is then the same in every batch.
    ///
    /// With `r = t` their target (M13) is the velocity all the same.
    #[must_use]
    pub fn padded(mut self, jumps: usize) -> Self {
        self.jumps = self.jumps.max(jumps.min(self.intervals.len()));
        self
    }

    /// Every `t`, `[B]`.
    pub fn ts(&self) -> Vec<f64> {
        self.intervals.iter().map(Interval::t).collect()
    }

    /// Every `r`, `[B]`.
    pub fn rs(&self) -> Vec<f64> {
        self.intervals.iter().map(Interval::r).collect()
    }

    /// Every `t − r`, `[B]`.
    pub fn lengths(&self) -> Vec<f64> {
        self.intervals.iter().map(Interval::length).collect()
    }
}

/// The law as written, before it is checked; braces make serde refuse unknown keys of every variant.
#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
enum RawTimeDistribution {
    Uniform {},
    LogitNormal { mean: f64, std: f64 },
}

impl TryFrom<RawTimeDistribution> for TimeDistribution {
    type Error = CoreError;

    fn try_from(raw: RawTimeDistribution) -> Result<Self, CoreError> {
        let law = match raw {
            RawTimeDistribution::Uniform {} => Self::Uniform,
            RawTimeDistribution::LogitNormal { mean, std } => Self::LogitNormal { mean, std },
        };
        law.validate().map(|()| law)
    }
}

/// A ratio as written, checked.
fn ratio<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    let ratio = f64::deserialize(deserializer)?;
    let checked = MeanFlowRatio::Count(ratio).validate();
    checked.map(|()| ratio).map_err(D::Error::custom)
}
