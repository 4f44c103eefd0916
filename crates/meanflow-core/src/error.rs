//! What can be wrong with a setting of this crate.

/// A setting outside its domain: which one, what would be right, what was given.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{name}: expected {expected}, got {got}")]
pub struct CoreError {
    /// Name of the setting, as written in a configuration.
    pub name: &'static str,
    /// The values it may have.
    pub expected: &'static str,
    /// The value it has.
    pub got: f64,
}

/// Lets `got` pass when `valid`; a NaN must make `valid` false.
pub(crate) fn check(
    name: &'static str,
    expected: &'static str,
    got: f64,
    valid: bool,
) -> Result<(), CoreError> {
    let refused = CoreError {
        name,
        expected,
        got,
    };
    valid.then_some(()).ok_or(refused)
}

/// Lets finite numbers pass.
pub(crate) fn finite(name: &'static str, got: f64) -> Result<(), CoreError> {
    check(name, "a finite number", got, got.is_finite())
}

/// Lets finite numbers above 0 pass.
pub(crate) fn positive(name: &'static str, got: f64) -> Result<(), CoreError> {
    let valid = got.is_finite() && got > 0.0;
    check(name, "a finite number > 0", got, valid)
}

/// Lets finite numbers from 0 on pass.
pub(crate) fn not_negative(name: &'static str, got: f64) -> Result<(), CoreError> {
    let valid = got.is_finite() && got >= 0.0;
    check(name, "a finite number ≥ 0", got, valid)
}
