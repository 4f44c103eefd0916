//! A recipe that takes a fraction of a second, and a way to stop it.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use meanflow_train::{Event, Observer, TrainConfig};

/// The recipe as it is.
pub(crate) const RECIPE: &str = r#"
seed = 3
data = { kind = "checkerboard", size = 500 }
network = { kind = "mlp", width = 16, depth = 2, embedding = "th" }
path = { kind = "linear" }
optimizer = { kind = "adamw", beta1 = 0.9, beta2 = 0.95, epsilon = 1e-8, weight_decay = 0.01 }
lr = { schedule = "cosine", peak = 1e-2, warmup_steps = 3, final_ratio = 0.1 }
loss = { norm_p = 1.0, norm_eps = 0.01, reduction = "sum" }
ema = { decays = [0.9, 0.5] }
training = { batch_size = 32, steps = 20, checkpoint_every = 6, sample_every = 10, log_every = 1, max_grad_norm = 1.0 }
sampling = { grid = [4, 4], nfe = [1, 2] }

[times]
t = { kind = "logit-normal", mean = -0.4, std = 1.0 }
mean_flow_ratio = { count = 0.5 }
order = "after-ordering"
"#;

/// The recipe with these overrides.
pub(crate) fn recipe(overrides: &[&str]) -> TrainConfig {
    // Such a network is not worth a second thread, which would wait for a core beside other tests.
    tch::set_num_threads(1);
    let overrides: Vec<String> = overrides.iter().map(ToString::to_string).collect();
    TrainConfig::parse(Path::new("test.toml"), RECIPE, &overrides).unwrap()
}

/// Asks to stop after a step.
#[allow(dead_code, reason = "not every test program needs it")]
pub(crate) struct StopAt<'a> {
    /// The step.
    pub(crate) step: u64,
    /// What the run looks at.
    pub(crate) stop: &'a AtomicBool,
}

impl Observer for StopAt<'_> {
    fn notice(&mut self, event: Event<'_>) {
        if let Event::Stepped(record) = event {
            self.stop.store(record.step >= self.step, Ordering::Relaxed);
        }
    }
}
