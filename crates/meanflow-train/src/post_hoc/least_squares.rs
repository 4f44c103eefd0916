//! The combination of profiles that is nearest to a profile.

use super::profile::Profile;

/// How much the square of each coefficient counts beside the error, in parts of the profile's own square: enough to decide between
/// combinations of profiles that are the same up to rounding.
const RIDGE: f64 = 1e-12;

/// A combination, and how far it is from what was wanted.
#[derive(Debug)]
pub(super) struct Nearest {
    /// One for each profile; they add up to 1.
    pub(super) coefficients: Vec<f64>,
    /// The norm of the difference over that of the profile that is wanted.
    pub(super) error: f64,
}

/// The coefficients `x` with `Σ x = 1` for which `‖Σ x_i p_i − wanted‖²` is least: the stationary point of that sum and a
/// multiplier, `[G 1; 1ᵀ 0] [x; λ] = [b; 1]` with `G_ij = p_i·p_j` and `b_i = p_i·wanted`.
pub(super) fn nearest(profiles: &[&Profile], wanted: &Profile) -> Nearest {
    let count = profiles.len();
    let gram: Vec<Vec<f64>> = profiles
        .iter()
        .map(|one| profiles.iter().map(|other| one.dot(other)).collect())
        .collect();
    let products: Vec<f64> = profiles.iter().map(|one| one.dot(wanted)).collect();
    let mut system: Vec<Vec<f64>> = gram
        .iter()
        .map(|row| [row.as_slice(), &[1.0]].concat())
        .collect();
    for (index, row) in system.iter_mut().enumerate() {
        row[index] *= 1.0 + RIDGE;
        row.push(products[index]);
    }
    system.push([vec![1.0; count], vec![0.0, 1.0]].concat());
    let mut coefficients = solve(system);
    coefficients.truncate(count);
    let square = wanted.dot(wanted);
    let fitted: f64 = (0..count)
        .map(|i| coefficients[i] * dot(&gram[i], &coefficients))
        .sum();
    let difference = fitted - 2.0 * dot(&products, &coefficients) + square;
    Nearest {
        coefficients,
        // Rounding may leave a difference of nothing below nothing.
        error: (difference.max(0.0) / square).sqrt(),
    }
}

fn dot(one: &[f64], other: &[f64]) -> f64 {
    one.iter().zip(other).map(|(one, other)| one * other).sum()
}

/// Gauss's elimination with row pivots, of a square system with its right side as the last column.
fn solve(mut rows: Vec<Vec<f64>>) -> Vec<f64> {
    let size = rows.len();
    for column in 0..size {
        let larger =
            |a: &usize, b: &usize| rows[*a][column].abs().total_cmp(&rows[*b][column].abs());
        let pivot = (column..size).max_by(larger).unwrap_or(column);
        rows.swap(column, pivot);
        let (above, below) = rows.split_at_mut(column + 1);
        let pivot = &above[column];
        for row in below {
            let factor = row[column] / pivot[column];
            for (value, above) in row.iter_mut().zip(pivot).skip(column) {
                *value -= factor * above;
            }
        }
    }
    let mut solution = vec![0.0; size];
    for index in (0..size).rev() {
        let known = dot(&rows[index][index + 1..size], &solution[index + 1..]);
        solution[index] = (rows[index][size] - known) / rows[index][index];
    }
    solution
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::TrainConfig;
    use crate::ema::EmaSchedule;

    fn average(decay: f64, step: u64) -> Profile {
        let recipe = TrainConfig::parse(
            Path::new("digits"),
            include_str!("../../../../configs/digits.toml"),
            &[],
        );
        let schedule = EmaSchedule::Constant {
            decay,
            warmup: false,
        };
        Profile::of(schedule, step, &recipe.unwrap())
    }

    #[test]
    fn what_is_there_is_found() {
        let there = [
            average(0.9, 100),
            average(0.99, 100),
            average(0.99, 50),
            Profile::at(100),
        ];
        let found = nearest(&there.each_ref(), &average(0.99, 100));
        for (coefficient, expected) in found.coefficients.iter().zip([0.0, 1.0, 0.0, 0.0]) {
            // The ridge, times the square of how much longer the profile of plain weights is: 200.
            assert!((coefficient - expected).abs() < 1e-9, "{found:?}");
        }
        // The root of the rounding of f64.
        assert!(found.error < 1e-7, "{}", found.error);
    }

    #[test]
    fn the_average_after_a_step_follows_from_the_one_before_it() {
        // ē(T) = d ē(T − 1) + (1 − d) θ(T).
        let there = [average(0.95, 99), Profile::at(100)];
        let found = nearest(&there.each_ref(), &average(0.95, 100));
        assert!(
            (found.coefficients[0] - 0.95).abs() < 1e-9
                && (found.coefficients[1] - 0.05).abs() < 1e-9
        );
        assert!(found.error < 1e-7);
    }

    #[test]
    fn nothing_of_the_same_sum_is_nearer_and_more_profiles_are_no_worse() {
        let all: Vec<Profile> = [20, 40, 60, 80, 100]
            .iter()
            .flat_map(|step| [average(0.9, *step), average(0.96, *step)])
            .collect();
        let (wanted, all) = (average(0.98, 100), all.iter().collect::<Vec<_>>());
        let found = nearest(&all, &wanted);
        assert!((found.coefficients.iter().sum::<f64>() - 1.0).abs() < 1e-9);
        // At the least the gradient is the same for every coefficient: p_i · (Σ x p − wanted) = −λ.
        let gradient = |one: &&Profile| {
            let fitted: f64 = all
                .iter()
                .zip(&found.coefficients)
                .map(|(other, x)| x * one.dot(other))
                .sum();
            fitted - one.dot(&wanted)
        };
        let gradients: Vec<f64> = all.iter().map(gradient).collect();
        assert!(
            gradients
                .iter()
                .all(|one| (one - gradients[0]).abs() < 1e-9),
            "{gradients:?}"
        );
        let fewer = nearest(&all[6..], &wanted);
        assert!(
            found.error < fewer.error && fewer.error < 1.0,
            "{} {}",
            found.error,
            fewer.error
        );
    }
}
