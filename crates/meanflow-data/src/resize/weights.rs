//! Which source pixels a target pixel is made of, and how much of each.

use super::Filter;

/// Weights from `from` pixels to `to` pixels, both at least 1: for every target pixel its first source pixel and the weights from there
/// on, which sum to 1.
pub(super) fn weights(from: usize, to: usize, filter: Filter) -> Vec<(usize, Vec<f64>)> {
    let scale = from as f64 / to as f64;
    let stretch = scale.max(1.0);
    let reach = filter.reach() * stretch;
    let window = |target: usize| {
        let center = (target as f64 + 0.5) * scale;
        // Where a source pixel lies on a border, the order of these operations decides: it is Pillow's.
        let first = (center - reach + 0.5).max(0.0) as usize;
        let end = ((center + reach + 0.5) as usize).min(from);
        let shrink = 1.0 / stretch;
        let weight = |source: usize| filter.at((source as f64 - center + 0.5) * shrink);
        let weights: Vec<f64> = (first..end).map(weight).collect();
        let sum: f64 = weights.iter().sum();
        (first, weights.iter().map(|weight| weight / sum).collect())
    };
    (0..to).map(window).collect()
}

impl Filter {
    /// Distance beyond which it is 0, in pixels.
    fn reach(self) -> f64 {
        match self {
            Self::Box => 0.5,
            Self::Bilinear => 1.0,
            Self::Bicubic => 2.0,
        }
    }

    /// Its value at a distance, before the weights are made to sum to 1.
    fn at(self, distance: f64) -> f64 {
        let x = distance.abs();
        match self {
            Self::Box if distance > -0.5 && distance <= 0.5 => 1.0,
            Self::Bilinear if x < 1.0 => 1.0 - x,
            Self::Bicubic if x < 1.0 => (1.5 * x - 2.5) * x * x + 1.0,
            Self::Bicubic if x < 2.0 => (((x - 5.0) * x + 8.0) * x - 4.0) * -0.5,
            _ => 0.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn weights_sum_to_one_and_stay_inside(from in 1_usize..300, to in 1_usize..300) {
            for filter in [Filter::Box, Filter::Bilinear, Filter::Bicubic] {
                for (first, weights) in weights(from, to, filter) {
                    prop_assert!(!weights.is_empty() && first + weights.len() <= from);
                    // A few hundred roundings of 1e-16.
                    prop_assert!((weights.iter().sum::<f64>() - 1.0).abs() < 1e-12);
                }
            }
        }
    }
}
