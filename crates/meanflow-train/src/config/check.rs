//! What no single key can know: settings that contradict each other.

use super::TrainConfig;
use super::sections::SamplingConfig;

/// More samples than this in one picture are a slip of the pen.
const MOST_SAMPLES: usize = 1 << 18;

/// A larger batch is a slip of the pen: its times alone would take much memory.
const LARGEST_BATCH: u64 = 1 << 22;

/// A setting that cannot be used together with the rest.
pub(super) struct Fault {
    pub(super) key: &'static str,
    pub(super) message: String,
}

pub(super) fn fault(key: &'static str, message: &impl ToString) -> Option<Fault> {
    Some(Fault {
        key,
        message: message.to_string(),
    })
}

impl TrainConfig {
    /// The first contradiction in the recipe, if there is one.
    pub(super) fn fault(&self) -> Option<Fault> {
        self.fault_of_formulas()
            .or_else(|| self.data.fault(&self.network))
            .or_else(|| self.fault_of_labels())
            .or_else(|| self.fault_of_training())
            .or_else(|| self.fault_of_compute())
            .or_else(|| self.sampling.fault())
    }

    /// Whether the network is given a class.
    pub fn is_conditional(&self) -> bool {
        self.data.is_conditional()
    }

    fn fault_of_formulas(&self) -> Option<Fault> {
        if let Err(error) = self.path.validate() {
            return fault("path", &error);
        }
        if let Err(error) = self.times.validate() {
            return fault("times", &error);
        }
        if let Err(error) = self.prediction.validate(&self.path) {
            return fault("prediction", &error);
        }
        self.loss
            .validate()
            .err()
            .and_then(|error| fault("loss", &error))
    }

    fn fault_of_labels(&self) -> Option<Fault> {
        let conditional = self.is_conditional();
        let batch = self.training.batch_size.get();
        match (&self.guidance, &self.class_dropout) {
            (Some(_), _) if !conditional => {
                fault("guidance", &"expected no guidance for data without labels")
            }
            (_, Some(_)) if !conditional => fault(
                "class_dropout",
                &"expected no class dropout for data without labels",
            ),
            (Some(guidance), drop)
                if uses_null_class(guidance)
                    && drop.as_ref().is_none_or(|drop| !drop.can_drop(batch)) =>
            {
                fault(
                    "guidance",
                    &format!(
                        "expected a class_dropout.prob that drops a label of a batch of {batch}: guidance asks the null class, which is only trained by dropped labels"
                    ),
                )
            }
            (_, Some(drop)) if drop.prob() > 0.0 && !drop.can_drop(batch) => fault(
                "class_dropout.prob",
                &format!(
                    "expected 0, or one that drops a label of a batch of {batch}, got {}",
                    drop.prob()
                ),
            ),
            _ => None,
        }
    }

    fn fault_of_training(&self) -> Option<Fault> {
        let steps = self.training.steps.get();
        let warmup = self.lr.warmup_steps();
        if warmup >= steps {
            return fault(
                "lr.warmup_steps",
                &format!("expected fewer than training.steps = {steps}, got {warmup}"),
            );
        }
        let (batch, microbatches) = (
            self.training.batch_size.get() as u64,
            self.training.microbatches.get(),
        );
        if batch > LARGEST_BATCH {
            return fault(
                "training.batch_size",
                &format!("expected at most {LARGEST_BATCH}, got {batch}"),
            );
        }
        if batch < microbatches {
            return fault(
                "training.microbatches",
                &format!("expected at most training.batch_size = {batch}, got {microbatches}"),
            );
        }
        self.fault_of_averages()
    }

    fn fault_of_averages(&self) -> Option<Fault> {
        let names = self.ema.names();
        if names.is_empty() {
            return fault(
                "ema",
                &"expected at least one entry in decays or half_lives, got none",
            );
        }
        let twice = (1..names.len()).find(|&i| names[..i].contains(&names[i]))?;
        fault(
            "ema",
            &format!("expected different averages, got {} twice", names[twice]),
        )
    }
}

/// Whether the guided target evaluates the null class (M20).
fn uses_null_class(guidance: &meanflow_cfg::Guidance) -> bool {
    1.0 - guidance.omega() - guidance.kappa() != 0.0
}

impl SamplingConfig {
    fn fault(&self) -> Option<Fault> {
        if self.nfe.is_empty() {
            return fault(
                "sampling.nfe",
                &"expected at least one number of function evaluations, got none",
            );
        }
        let count = self.grid[0].get().saturating_mul(self.grid[1].get());
        if count > MOST_SAMPLES {
            return fault(
                "sampling.grid",
                &format!("expected at most {MOST_SAMPLES} samples in a grid, got {count}"),
            );
        }
        None
    }
}
