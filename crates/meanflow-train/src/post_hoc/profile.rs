//! How much of every step's weights an average holds.

use crate::TrainConfig;
use crate::ema::EmaSchedule;

/// What older weights hold together, below this share, is given to the oldest that is kept.
const FORGOTTEN: f64 = 1e-15;

/// The shares of consecutive steps in an average; they add up to 1. Step 0 is the beginning, before the first step.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Profile {
    first: u64,
    shares: Vec<f64>,
}

impl Profile {
    /// Of the plain weights after a step.
    pub(super) fn at(step: u64) -> Self {
        Self {
            first: step,
            shares: vec![1.0],
        }
    }

    /// Of an average of this recipe with this schedule after `step` steps.
    pub(super) fn of(schedule: EmaSchedule, step: u64, recipe: &TrainConfig) -> Self {
        let (every, batch) = (recipe.ema.every.get(), recipe.training.batch_size.get());
        // From the last step back.
        let (mut shares, mut kept) = (Vec::new(), 1.0);
        for at in (1..=step).rev() {
            let update = at.is_multiple_of(every);
            let decay = if update {
                schedule.decay(at, every, batch)
            } else {
                1.0
            };
            shares.push(kept * (1.0 - decay));
            kept *= decay;
            if kept < FORGOTTEN {
                break;
            }
        }
        if kept < FORGOTTEN {
            *shares.last_mut().expect("a step was looked at") += kept;
        } else {
            shares.push(kept);
        }
        shares.reverse();
        Self {
            first: step + 1 - shares.len() as u64,
            shares,
        }
    }

    /// The sum of the products of both profiles' shares.
    pub(super) fn dot<'a>(&'a self, other: &'a Self) -> f64 {
        let begin = self.first.max(other.first);
        let of = |one: &'a Self| one.shares.get((begin - one.first) as usize..);
        let shares = |one| of(one).unwrap_or_default();
        let pairs = shares(self).iter().zip(shares(other));
        pairs.map(|(one, other)| one * other).sum()
    }

    /// The share of a step.
    #[cfg(test)]
    pub(super) fn share(&self, step: u64) -> f64 {
        let place = step.checked_sub(self.first);
        place
            .and_then(|place| self.shares.get(place as usize))
            .copied()
            .unwrap_or(0.0)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;

    use super::*;
    use crate::config::{HalfLife, Positive, Share};

    fn recipe(every: u64) -> TrainConfig {
        let text = include_str!("../../../../configs/digits.toml");
        let overrides = [
            format!("ema.every={every}"),
            "training.batch_size=128".to_owned(),
        ];
        TrainConfig::parse(Path::new("digits"), text, &overrides).unwrap()
    }

    fn constant(decay: f64, warmup: bool) -> EmaSchedule {
        EmaSchedule::Constant { decay, warmup }
    }

    #[test]
    fn of_a_constant_decay_it_falls_geometrically() {
        let profile = Profile::of(constant(0.9, false), 20, &recipe(1));
        // (1 − d) d^(T − s), and d^T of the beginning.
        for step in 1..=20_u64 {
            let expected = 0.1 * 0.9_f64.powi(20 - step as i32);
            assert!((profile.share(step) - expected).abs() < 1e-15);
        }
        assert!((profile.share(0) - 0.9_f64.powi(20)).abs() < 1e-15);
        // ∫ of two geometric series in the same steps: (1 − d)² Σ d^2k, k < T, and the beginning.
        let (d, t) = (0.9_f64, 20);
        let expected = 0.01 * (1.0 - d.powi(2 * t)) / (1.0 - d * d) + d.powi(2 * t);
        assert!((profile.dot(&profile) - expected).abs() < 1e-15);
        assert_eq!(profile.dot(&Profile::at(20)), profile.share(20));
        assert_eq!(profile.dot(&Profile::at(21)), 0.0);
    }

    #[test]
    fn of_a_half_life_that_is_a_share_of_the_run_it_is_a_power_of_the_step() {
        // A half-life of ramp·(samples seen) decays as s^(ln 2/ramp − 1), as the power function of the paper, section 3.1.
        let ramp = Share::new(0.1);
        let samples = Positive::new(1e12).unwrap();
        let schedule = EmaSchedule::HalfLife(HalfLife { samples, ramp });
        let profile = Profile::of(schedule, 4000, &recipe(1));
        let gamma = std::f64::consts::LN_2 / 0.1 - 1.0;
        for step in [2000, 3000, 3999] {
            let ratio = profile.share(step) / profile.share(4000);
            let expected = (step as f64 / 4000.0).powf(gamma);
            // A sum for an integral over 4000 steps: of the order of (γ + 1)²/2 · 1/s.
            assert!(
                (ratio / expected - 1.0).abs() < 0.02,
                "{step}: {ratio} {expected}"
            );
        }
    }

    proptest! {
        #[test]
        fn shares_add_up_to_one(decay in 0.0..0.9999_f64, warmup: bool, steps in 1..3000_u64, every in 1..5_u64) {
            let profile = Profile::of(constant(decay, warmup), steps, &recipe(every));
            let sum: f64 = profile.shares.iter().sum();
            // As many roundings as steps.
            prop_assert!((sum - 1.0).abs() < 1e-12);
            prop_assert!(profile.shares.iter().all(|share| *share >= 0.0));
        }
    }
}
