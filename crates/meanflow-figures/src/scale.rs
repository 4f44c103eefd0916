//! How values become places.

/// How values of an axis become places on it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Scale {
    /// Equal differences, equal distances.
    Linear,
    /// Equal ratios, equal distances; values that are not positive are left out.
    Logarithmic,
}
