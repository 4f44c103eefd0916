//! The learning rate of a step.

use std::f64::consts::PI;

use crate::config::LrConfig;

impl LrConfig {
    /// The rate of step `step` (counted from 0) of `steps`.
    pub fn at(&self, step: u64, steps: u64) -> f64 {
        let peak = match *self {
            Self::Constant { peak, .. } | Self::Cosine { peak, .. } => peak.get(),
        };
        let warmup = self.warmup_steps();
        if step < warmup {
            return peak * (step + 1) as f64 / warmup as f64;
        }
        match *self {
            Self::Constant { .. } => peak,
            Self::Cosine { final_ratio, .. } => {
                let progress = (step - warmup) as f64 / (steps - warmup) as f64;
                let last = final_ratio.get();
                peak * (last + (1.0 - last) * 0.5 * (1.0 + (PI * progress).cos()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Positive, Share};
    use proptest::prelude::*;

    fn cosine(warmup_steps: u64, last: f64) -> LrConfig {
        let (peak, final_ratio) = (Positive::new(2.0).unwrap(), Share::new(last).unwrap());
        LrConfig::Cosine {
            peak,
            warmup_steps,
            final_ratio,
        }
    }

    proptest! {
        #[test]
        fn it_rises_to_the_peak_and_falls_to_the_end(warmup in 0_u64..50, more in 2_u64..100, last in 0.0..1.0) {
            let steps = warmup + more;
            let rates: Vec<f64> = (0..steps).map(|step| cosine(warmup, last).at(step, steps)).collect();
            let top = warmup as usize;
            prop_assert!(rates[..top].is_sorted());
            prop_assert!(rates[top..].iter().rev().is_sorted());
            prop_assert_eq!(rates[top], 2.0);
            prop_assert!(rates.iter().all(|rate| *rate > 0.0 && *rate <= 2.0));
            // One step after the last is the end of the half wave.
            prop_assert!((cosine(warmup, last).at(steps, steps) - 2.0 * last).abs() < 1e-12);
        }
    }

    #[test]
    fn a_constant_rate_is_its_peak_after_the_warm_up() {
        let rate = LrConfig::Constant {
            peak: Positive::new(3.0).unwrap(),
            warmup_steps: 3,
        };
        let rates: Vec<f64> = (0..5).map(|step| rate.at(step, 5)).collect();
        assert_eq!(rates, [1.0, 2.0, 3.0, 3.0, 3.0]);
    }
}
