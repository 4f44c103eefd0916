//! What can be wrong with a guidance setting, and why it is wrong.

/// A guidance setting that means nothing: what was given, what was expected, and why.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum GuidanceError {
    /// A number is NaN or infinite.
    #[error("{name}: expected a finite number, got {got}")]
    NotFinite {
        /// Name of the setting.
        name: &'static str,
        /// Its value.
        got: f64,
    },
    /// `ω ≤ 0`.
    #[error(
        "omega: expected a number > 0, got {got}: ω weighs the velocity of the data, without which the network \
         would learn from its own output alone"
    )]
    OmegaNotPositive {
        /// The value of ω.
        got: f64,
    },
    /// `κ` outside `[0, 1)`.
    #[error(
        "kappa: expected a number in [0, 1), got {got}: the effective scale is ω/(1−κ), infinite at κ = 1, and the \
         target has no stable fixed point beyond"
    )]
    KappaOutOfRange {
        /// The value of κ.
        got: f64,
    },
    /// The guidance interval is not an interval of [0, 1].
    #[error("guidance.interval: expected 0 ≤ start ≤ end ≤ 1, got start = {start} and end = {end}")]
    Interval {
        /// Its first time.
        start: f64,
        /// Its last time.
        end: f64,
    },
    /// The probability of class dropout is not one.
    #[error("class_dropout.prob: expected a number in [0, 1], got {got}")]
    Probability {
        /// Its value.
        got: f64,
    },
}
