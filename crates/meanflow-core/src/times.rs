//! Laws of the times (r, t) of a training batch; the rows with `r < t` come first.

use serde::{Deserialize, Serialize};

use crate::error::{CoreError, check};
use crate::interval::Interval;
use crate::random::Stream;

/// The law of (r, t) of a batch.
///
/// The official recipe: one law for both times, 25 % jump rows by count, masked after ordering. The CIFAR recipe
/// v1 of the PyTorch code: two laws, jump rows by chance, masked before ordering.
///
/// ```
/// use meanflow_core::{IntervalLaw, JumpRows, MaskOrder, Purpose, Stream, TimeLaw};
///
/// let law = IntervalLaw {
///     t: TimeLaw::LogitNormal { mean: -0.4, std: 1.0 },
///     r: None,
///     jump_rows: JumpRows::Count { share: 0.25 },
///     order: MaskOrder::AfterOrdering,
/// };
/// let draw = law.draw(8, &mut Stream::new(0, Purpose::Times, 0));
/// assert_eq!(draw.jumps, 2);
/// assert!(draw.intervals[..2].iter().all(|i| i.r() < i.t()));
/// assert!(draw.intervals[2..].iter().all(|i| i.r() == i.t()));
/// ```
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct IntervalLaw {
    /// Law of `t`.
    pub t: TimeLaw,
    /// Law of `r`; none: that of `t`, and the two draws are ordered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub r: Option<TimeLaw>,
    /// Which rows keep `r < t`.
    pub jump_rows: JumpRows,
    /// When the other rows get `r = t`.
    pub order: MaskOrder,
}

/// The law of one time in [0, 1].
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case", try_from = "RawTimeLaw")]
pub enum TimeLaw {
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

/// The share of rows with `r < t`, the jump rows (public codes count either kind: 0.75 means both).
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case", try_from = "RawJumpRows")]
pub enum JumpRows {
    /// In every batch of `B` rows the same number, `B − ⌊B (1 − share)⌋`, as the official JAX code counts.
    Count {
        /// Share of jump rows, in [0, 1].
        share: f64,
    },
    /// Each row on its own with this probability.
    Bernoulli {
        /// Share of jump rows, in [0, 1].
        share: f64,
    },
}

/// Whether `r := t` comes before or after the two draws are ordered.
///
/// With one law for both times: after ordering, the `t` of a flow row is the larger of two draws; before it, a
/// single one.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum MaskOrder {
    /// `t, r := max, min` of the two draws, then `r := t` on the flow rows.
    AfterOrdering,
    /// `r := t` on the flow rows, then ordering: by max and min under one law; under two laws `r := min(t, r)`,
    /// which never moves `t` and makes a row with `r > t` a flow row.
    BeforeOrdering,
}

/// The times of a batch.
#[derive(Clone, Debug, PartialEq)]
pub struct TimeDraw {
    /// One interval per row, the jump rows first.
    pub intervals: Vec<Interval>,
    /// Number of rows with `r < t`: exactly `intervals[..jumps]`.
    pub jumps: usize,
}

impl IntervalLaw {
    /// The times of a batch of `rows` samples.
    pub fn draw(&self, rows: usize, stream: &mut Stream) -> TimeDraw {
        let pairs: Vec<(f64, f64)> = (0..rows)
            .map(|_| {
                let t = self.t.sample(stream);
                (self.r.unwrap_or(self.t).sample(stream), t)
            })
            .collect();
        let mask = self.jump_rows.mask(rows, stream);
        TimeDraw::new(
            pairs
                .iter()
                .zip(mask)
                .map(|(&(r, t), jump)| self.place(r, t, jump))
                .collect(),
        )
    }

    /// # Errors
    /// As of its parts.
    pub fn validate(&self) -> Result<(), CoreError> {
        self.t.validate()?;
        self.r.map_or(Ok(()), |r| r.validate())?;
        self.jump_rows.validate()
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

impl TimeLaw {
    /// One time.
    pub fn sample(&self, stream: &mut Stream) -> f64 {
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
                check("times.mean", "a finite number", mean, mean.is_finite())?;
                check(
                    "times.std",
                    "a finite number > 0",
                    std,
                    std.is_finite() && std > 0.0,
                )
            }
        }
    }
}

impl JumpRows {
    /// The share of jump rows.
    pub fn share(&self) -> f64 {
        let (Self::Count { share } | Self::Bernoulli { share }) = *self;
        share
    }

    /// # Errors
    /// Unless the share is in [0, 1].
    pub fn validate(&self) -> Result<(), CoreError> {
        let share = self.share();
        check(
            "times.jump_rows.share",
            "a number in [0, 1]",
            share,
            (0.0..=1.0).contains(&share),
        )
    }

    /// For every row whether it is to be a jump row.
    fn mask(&self, rows: usize, stream: &mut Stream) -> Vec<bool> {
        match *self {
            Self::Count { share } => {
                // 10 · (1 − 0.9) is 0.99…98 in f64: an integer missed by rounding counts as reached.
                let flow = (rows as f64 * (1.0 - share) + 1e-9).floor() as usize;
                (0..rows).map(|row| row < rows - flow.min(rows)).collect()
            }
            Self::Bernoulli { share } => (0..rows).map(|_| stream.uniform() < share).collect(),
        }
    }
}

impl TimeDraw {
    /// Puts the jump rows first, each kind in its order.
    fn new(intervals: Vec<Interval>) -> Self {
        let (mut intervals, flow): (Vec<_>, Vec<_>) =
            intervals.into_iter().partition(Interval::is_jump);
        let jumps = intervals.len();
        intervals.extend(flow);
        Self { intervals, jumps }
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
enum RawTimeLaw {
    Uniform {},
    LogitNormal { mean: f64, std: f64 },
}

impl TryFrom<RawTimeLaw> for TimeLaw {
    type Error = CoreError;

    fn try_from(raw: RawTimeLaw) -> Result<Self, CoreError> {
        let law = match raw {
            RawTimeLaw::Uniform {} => Self::Uniform,
            RawTimeLaw::LogitNormal { mean, std } => Self::LogitNormal { mean, std },
        };
        law.validate().map(|()| law)
    }
}

/// The share as written, before it is checked.
#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
enum RawJumpRows {
    Count { share: f64 },
    Bernoulli { share: f64 },
}

impl TryFrom<RawJumpRows> for JumpRows {
    type Error = CoreError;

    fn try_from(raw: RawJumpRows) -> Result<Self, CoreError> {
        let rows = match raw {
            RawJumpRows::Count { share } => Self::Count { share },
            RawJumpRows::Bernoulli { share } => Self::Bernoulli { share },
        };
        rows.validate().map(|()| rows)
    }
}
