//! Exponential moving averages of the weights, each a model to sample from.

use meanflow_torch::{Average, Model, Tensor};
use tch::no_grad;

use crate::TrainConfig;
use crate::config::{EmaConfig, HalfLife};

/// A moving average of a model's weights with the schedule of its decay.
#[derive(Debug)]
pub(crate) struct Ema {
    pub(crate) schedule: EmaSchedule,
    pub(crate) model: Model,
    /// `1 − decay` of the next update: a scalar on the device, which reads it there.
    weight: Tensor,
}

/// The decay of an average as a function of the step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum EmaSchedule {
    /// The same every step, but for the beginning where it warms up.
    Constant {
        /// What a step keeps in the end.
        decay: f64,
        /// Whether the beginning keeps less.
        warmup: bool,
    },
    /// Half after so many samples (Karras et al. 2022), fewer in the beginning.
    HalfLife(HalfLife),
}

impl EmaSchedule {
    /// The schedules of a recipe in their order; the first is that of the average to sample from.
    pub(crate) fn all(config: &EmaConfig) -> impl Iterator<Item = Self> {
        let warmup = config.warmup;
        let constant = config.decays.iter().map(move |decay| Self::Constant {
            decay: decay.get(),
            warmup,
        });
        constant.chain(
            config
                .half_lives
                .iter()
                .map(|half_life| Self::HalfLife(*half_life)),
        )
    }

    /// The decay of one update that stands for `steps` steps of `batch` samples, the last of which is number `step`.
    pub(crate) fn decay(self, step: u64, steps: u64, batch: usize) -> f64 {
        match self {
            Self::Constant { decay, warmup } => {
                // The warm-up is over where its first step is, for it only rises.
                let is_over = !warmup || warmed_up(decay, step.saturating_sub(steps) + 1) == decay;
                if is_over {
                    return decay.powf(steps as f64);
                }
                let first = (step + 1).saturating_sub(steps);
                (first..=step).map(|step| warmed_up(decay, step)).product()
            }
            Self::HalfLife(HalfLife { samples, ramp }) => {
                let seen = step as f64 * batch as f64;
                let half_life =
                    ramp.map_or(samples.get(), |ramp| samples.get().min(ramp.get() * seen));
                // Without a past, half_life = 0, nothing of it is kept.
                0.5_f64.powf(steps as f64 * batch as f64 / half_life)
            }
        }
    }

    /// The same schedule without a warm-up.
    fn without_warmup(self) -> Self {
        match self {
            Self::Constant { decay, .. } => Self::Constant {
                decay,
                warmup: false,
            },
            schedule @ Self::HalfLife(_) => schedule,
        }
    }

    /// The share of the weights that a run began with in its average at the end.
    fn start_share(self, steps: u64, every: u64, batch: usize) -> f64 {
        let mut share = 1.0;
        for update in 1..=steps / every {
            share *= self.decay(update * every, every, batch);
            if share < 1e-9 {
                return 0.0;
            }
        }
        share
    }

    /// A name that tells it from the others, for files and metadata.
    pub(crate) fn name(self) -> String {
        match self {
            Self::Constant { decay, .. } => decay.to_string(),
            Self::HalfLife(half_life) => format!("half-life-{}", half_life.samples.get()),
        }
    }
}

/// What an average that warms up keeps in step `step`, counted from 1: at most `(1 + step)/(10 + step)`. So it looks back over about the
/// last ninth of the run until its own decay is less.
fn warmed_up(decay: f64, step: u64) -> f64 {
    decay.min((1.0 + step as f64) / (10.0 + step as f64))
}

/// Above this share of the start an average is no model of the end.
const MUCH: f64 = 0.05;

/// What a user has to know of the averages of a whole run: those that still hold much of the weights it began with at the end, and those
/// that would without their warm-up.
pub fn ema_notes(config: &TrainConfig) -> Vec<String> {
    let (steps, every) = (config.training.steps.get(), config.ema.every.get());
    let batch = config.training.batch_size.get();
    let note = |schedule: EmaSchedule| {
        let held = schedule.start_share(steps, every, batch);
        let plain = schedule.without_warmup().start_share(steps, every, batch);
        let name = schedule.name();
        if held > MUCH {
            let percent = 100.0 * held;
            return Some(format!(
                "warning: after {steps} steps the average {name} still holds {percent:.1} % of the weights that training began \
                 with; take a smaller decay, more steps or ema.warmup = true"
            ));
        }
        let (percent, last) = (100.0 * plain, schedule.decay(steps, 1, batch));
        (plain > MUCH).then(|| {
            format!(
                "note: the average of decay {name} warms up and has decay {last:.4} at the end; constant it would hold \
                 {percent:.1} % of its start after {steps} steps"
            )
        })
    };
    EmaSchedule::all(&config.ema).filter_map(note).collect()
}

impl Ema {
    /// An average that starts at the model's weights.
    pub(crate) fn new(schedule: EmaSchedule, model: &Model) -> Self {
        Self {
            schedule,
            model: model.twin(),
            weight: Tensor::zeros([], (model.kind(), model.device())),
        }
    }

    /// Sets the average to the model's weights.
    pub(crate) fn restart(&self, model: &Model) {
        let (ours, theirs) = (self.model.parameters(), model.parameters());
        for ((_, average), (_, parameter)) in ours.iter().zip(theirs.iter()) {
            no_grad(|| average.shallow_clone().copy_(parameter));
        }
    }

    /// Sets the decay of the next update.
    pub(crate) fn set_decay(&mut self, decay: f64) {
        let _ = self.weight.fill_(1.0 - decay);
    }

    /// The average as the threads of a step update it.
    pub(crate) fn average(&self) -> Average<'_> {
        Average {
            parameters: self.model.parameters(),
            weight: &self.weight,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Positive, Share};

    fn half_life(samples: f64, ramp: Option<f64>) -> EmaSchedule {
        let ramp = ramp.and_then(Share::new);
        EmaSchedule::HalfLife(HalfLife {
            samples: Positive::new(samples).unwrap(),
            ramp,
        })
    }

    fn constant(decay: f64, warmup: bool) -> EmaSchedule {
        EmaSchedule::Constant { decay, warmup }
    }

    #[test]
    fn a_warm_up_forgets_the_start_and_ends_at_the_decay() {
        // 0.9999^500, as a user of a short run once had it.
        let plain = constant(0.9999, false).start_share(500, 1, 128);
        assert!((plain - 0.9999_f64.powi(500)).abs() < 1e-12);
        // The product of (1 + n)/(10 + n) is 10!/((N + 2)…(N + 10)): below 10!/500⁹.
        assert_eq!(constant(0.9999, true).start_share(500, 1, 128), 0.0);
        let schedule = constant(0.9, true);
        assert_eq!(schedule.decay(1, 1, 128), 2.0 / 11.0);
        // (1 + 80)/(10 + 80) = 0.9.
        assert_eq!(schedule.decay(80, 1, 128), 0.9);
        assert_eq!(schedule.decay(1000, 1, 128), 0.9);
    }

    #[test]
    fn one_update_for_many_steps_keeps_what_that_many_updates_keep() {
        let schedule = constant(0.9999, false);
        // Rounding of sixteen products.
        assert!((schedule.decay(16, 16, 128) - 0.9999_f64.powi(16)).abs() < 1e-14);
        let schedule = constant(0.98, true);
        for step in [16, 440, 448, 10_000] {
            let apart: f64 = (step - 15..=step)
                .map(|step| schedule.decay(step, 1, 128))
                .product();
            assert!(
                (schedule.decay(step, 16, 128) - apart).abs() < 1e-14,
                "{step}"
            );
        }
        let schedule = half_life(5000.0, None);
        let apart: f64 = (0..16).map(|step| schedule.decay(step, 1, 128)).product();
        assert!((schedule.decay(16, 16, 128) - apart).abs() < 1e-14);
    }

    #[test]
    fn half_is_kept_after_a_half_life() {
        let schedule = half_life(1000.0, None);
        let kept: f64 = (1..=10).map(|step| schedule.decay(step, 1, 100)).product();
        assert!((kept - 0.5).abs() < 1e-14);
    }

    #[test]
    fn the_ramp_shortens_the_half_life_until_enough_was_seen() {
        let schedule = half_life(1000.0, Some(0.05));
        // After 20 steps of 100 samples the half-life is 5 % of 2000 samples.
        assert!((schedule.decay(20, 1, 100) - 0.5).abs() < 1e-14);
        assert_eq!(
            schedule.decay(1_000_000, 1, 100),
            half_life(1000.0, None).decay(1, 1, 100)
        );
        assert_eq!(schedule.decay(0, 1, 100), 0.0);
    }

    #[test]
    fn names_tell_the_averages_apart() {
        assert_eq!(constant(0.9999, true).name(), "0.9999");
        assert_eq!(half_life(500_000.0, None).name(), "half-life-500000");
    }
}
