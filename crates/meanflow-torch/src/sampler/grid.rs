//! Grids of times from noise to data.

use std::f64::consts::PI;

use crate::TorchError;

/// `steps + 1` equally spaced times from 1 down to 0.
pub fn uniform_grid(steps: usize) -> Vec<f64> {
    (0..=steps)
        .map(|step| 1.0 - step as f64 / steps as f64)
        .collect()
}

/// `t_k = ½ (1 + cos(πk/n))`, `n + 1` times from 1 down to 0 for `n` steps: shortest at both ends.
///
/// At noise the field decides between modes, at data it sharpens: it changes most there.
pub fn cosine_grid(steps: usize) -> Vec<f64> {
    (0..=steps)
        .map(|step| 0.5 * (1.0 + (PI * step as f64 / steps as f64).cos()))
        .collect()
}

/// Checks that the times decrease from 1 to 0.
///
/// # Errors
/// With the grid, if they do not.
pub(super) fn check(grid: &[f64]) -> Result<(), TorchError> {
    let decreasing = grid.windows(2).all(|times| times[0] > times[1]);
    if decreasing && grid.len() >= 2 && grid[0] == 1.0 && grid[grid.len() - 1] == 0.0 {
        return Ok(());
    }
    Err(TorchError::Argument {
        what: "grid",
        expected: "times that decrease from 1 to 0".into(),
        got: format!("{grid:?}"),
    })
}
