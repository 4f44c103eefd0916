//! Moving averages of the weights, each a model to sample from.

use meanflow_torch::{Model, Tensor, TorchError, ema};

use crate::config::{EmaConfig, HalfLife};

/// An average with the law of its decay.
#[derive(Debug)]
pub(crate) struct Average {
    pub(crate) law: DecayLaw,
    pub(crate) model: Model,
    /// How far the next update goes, 1 − decay: a scalar on the device, which reads it there.
    weight: Tensor,
}

/// How much an update keeps.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum DecayLaw {
    /// The same every step.
    Constant(f64),
    /// Half after so many samples (Karras et al. 2022), fewer in the beginning.
    HalfLife(HalfLife),
}

impl DecayLaw {
    /// The laws of a recipe in their order; the first is the one to sample from.
    pub(crate) fn all(config: &EmaConfig) -> impl Iterator<Item = Self> {
        let constant = config
            .decays
            .iter()
            .map(|decay| Self::Constant(decay.get()));
        constant.chain(config.half_lives.iter().map(|law| Self::HalfLife(*law)))
    }

    /// What one update keeps that stands for `steps` steps of `batch` samples, the last of which is number `step`.
    pub(crate) fn kept(self, step: u64, steps: u64, batch: usize) -> f64 {
        match self {
            Self::Constant(decay) => decay.powf(steps as f64),
            Self::HalfLife(HalfLife { samples, ramp }) => {
                let seen = step as f64 * batch as f64;
                let half_life =
                    ramp.map_or(samples.get(), |ramp| samples.get().min(ramp.get() * seen));
                // Without a past, half_life = 0, nothing of it is kept.
                0.5_f64.powf(steps as f64 * batch as f64 / half_life)
            }
        }
    }

    /// A name that tells it from the others, for files and metadata.
    pub(crate) fn name(self) -> String {
        match self {
            Self::Constant(decay) => decay.to_string(),
            Self::HalfLife(law) => format!("half-life-{}", law.samples.get()),
        }
    }
}

impl Average {
    /// An average that starts at the model's weights.
    pub(crate) fn new(law: DecayLaw, model: &Model) -> Self {
        Self {
            law,
            model: model.twin(),
            weight: Tensor::zeros([], (model.kind(), model.device())),
        }
    }

    /// Moves towards `current`, of which so much is kept.
    ///
    /// # Errors
    /// If libtorch refuses.
    pub(crate) fn follow(&self, current: &Model, kept: f64) -> Result<(), TorchError> {
        ema::update(self.model.parameters(), current.parameters(), kept)
    }

    /// Sets what the next [`Average::follow_unless`] keeps.
    pub(crate) fn keep(&mut self, kept: f64) {
        let _ = self.weight.fill_(1.0 - kept);
    }

    /// Moves towards `current`, unless `bad`, a boolean on the device, is true.
    pub(crate) fn follow_unless(&self, bad: &Tensor, current: &Model) {
        let (average, current) = (self.model.parameters(), current.parameters());
        ema::update_unless(bad, average, current, &self.weight);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Positive, Share};

    fn half_life(samples: f64, ramp: Option<f64>) -> DecayLaw {
        let ramp = ramp.and_then(Share::new);
        DecayLaw::HalfLife(HalfLife {
            samples: Positive::new(samples).unwrap(),
            ramp,
        })
    }

    #[test]
    fn one_update_for_many_steps_keeps_what_that_many_updates_keep() {
        let law = DecayLaw::Constant(0.9999);
        // Rounding of sixteen products.
        assert!((law.kept(16, 16, 128) - 0.9999_f64.powi(16)).abs() < 1e-14);
        let law = half_life(5000.0, None);
        let apart: f64 = (0..16).map(|step| law.kept(step, 1, 128)).product();
        assert!((law.kept(16, 16, 128) - apart).abs() < 1e-14);
    }

    #[test]
    fn half_is_kept_after_a_half_life() {
        let law = half_life(1000.0, None);
        let kept: f64 = (1..=10).map(|step| law.kept(step, 1, 100)).product();
        assert!((kept - 0.5).abs() < 1e-14);
    }

    #[test]
    fn the_ramp_shortens_the_half_life_until_enough_was_seen() {
        let law = half_life(1000.0, Some(0.05));
        // After 20 steps of 100 samples the half-life is 5 % of 2000 samples.
        assert!((law.kept(20, 1, 100) - 0.5).abs() < 1e-14);
        assert_eq!(
            law.kept(1_000_000, 1, 100),
            half_life(1000.0, None).kept(1, 1, 100)
        );
        assert_eq!(law.kept(0, 1, 100), 0.0);
    }

    #[test]
    fn names_tell_the_averages_apart() {
        assert_eq!(DecayLaw::Constant(0.9999).name(), "0.9999");
        assert_eq!(half_life(500_000.0, None).name(), "half-life-500000");
    }
}
