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
    if valid {
        Ok(())
    } else {
        Err(CoreError {
            name,
            expected,
            got,
        })
    }
}
