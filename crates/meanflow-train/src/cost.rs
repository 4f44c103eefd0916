//! What training a recipe costs: operations and memory, from the recipe alone.

use std::fs;

use meanflow_cfg::{Guidance, GuidancePlan};
use meanflow_core::random::{Purpose, RngStream};
use meanflow_torch::{Dtype, ModelConfig};

use crate::TrainError;
use crate::config::TrainConfig;

/// What a recipe costs; an operation is a multiplication or an addition of products, convolutions and attention.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cost {
    /// Operations of one forward of one sample.
    pub forward: f64,
    /// Operations of a step a sample of its batch: forward and backward pass, `du/dt` in the MeanFlow rows, forwards of guidance.
    pub training: f64,
    /// Memory of training.
    pub memory: Memory,
}

/// Bytes that a training holds on one thread or one CUDA device, in numbers of four bytes, and of two where products are in bfloat16.
///
/// Not counted: tangents, the buffers of kernels, the data, and what a device takes for itself. In bfloat16 it is what a step on a
/// CUDA device keeps.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Memory {
    /// The parameters, and in bfloat16 as the products take them, too.
    pub weights: u64,
    /// Their gradients.
    pub gradients: u64,
    /// Two moments a parameter.
    pub optimizer: u64,
    /// The averages of the weights.
    pub averages: u64,
    /// What the forward of a microbatch keeps for the backward pass where no block is computed again, an upper bound where they
    /// are; and the gradients of activations that the backward pass holds at a time.
    pub activations: u64,
}

impl Memory {
    /// All together.
    pub fn total(&self) -> u64 {
        self.weights + self.gradients + self.optimizer + self.averages + self.activations
    }

    /// All together where this number of threads of a CPU compute a microbatch each: everyone beside the first has a set of gradients,
    /// the activations of a microbatch and, in bfloat16, the rounded parameters.
    pub fn total_of_workers(&self, workers: usize) -> u64 {
        let others = workers.saturating_sub(1) as u64;
        self.total() + others * (self.gradients + self.rounded() + self.activations)
    }

    /// Of the parameters, what they are rounded to: gradients have the bytes of the parameters themselves.
    pub fn rounded(&self) -> u64 {
        self.weights - self.gradients
    }
}

/// Refuses a recipe that the memory of this machine cannot hold, before anything is built. Activations are counted where they are
/// known and not only bounded.
pub(crate) fn refuse_too_large(
    config: &TrainConfig,
    model: &ModelConfig,
) -> Result<(), TrainError> {
    let memory = config.cost(model)?.memory;
    let bounded = match config.compute.activation_checkpointing {
        true => memory.activations,
        false => 0,
    };
    let needed = memory.total() - bounded;
    match memory_there() {
        Some(there) if needed > there => Err(TrainError::NoMemory { needed, there }),
        _ => Ok(()),
    }
}

/// Bytes of memory and swap of this machine, of which a process can take at most all; none where nothing says so.
fn memory_there() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let kibibytes = |key: &str| -> Option<u64> {
        let line = text.lines().find_map(|line| line.strip_prefix(key))?;
        line.trim().strip_suffix("kB")?.trim().parse().ok()
    };
    Some((kibibytes("MemTotal:")? + kibibytes("SwapTotal:")?) << 10)
}

/// Bytes of a number.
const NUMBER: u64 = 4;

/// Batches over which rows are counted, fewer where they are so large that each says enough.
const BATCHES: u64 = 100;
/// Rows that are enough.
const ROWS: u64 = BATCHES << 12;

impl TrainConfig {
    /// The cost of training `model`, which is this recipe's.
    ///
    /// # Errors
    /// If the configuration describes no network.
    pub fn cost(&self, model: &ModelConfig) -> Result<Cost, TrainError> {
        let work = model.flops()?;
        let rows = self.rows();
        let parameters = NUMBER * model.parameter_count()? as u64;
        let rounded = match self.compute.dtype {
            Dtype::F32 => 0,
            Dtype::Bf16 => parameters / 2,
        };
        let microbatch = self
            .training
            .batch_size
            .get()
            .div_ceil(self.training.microbatches.get() as usize);
        let guidance = rows.guidance * work.forward();
        let again = f64::from(u8::from(self.compute.activation_checkpointing)) * work.forward();
        let derivative = rows.jumps * work.derivative(self.training.jvp);
        Ok(Cost {
            forward: work.forward(),
            training: work.forward() + work.backward() + derivative + guidance + again,
            memory: Memory {
                weights: parameters + rounded,
                gradients: parameters,
                optimizer: 2 * parameters,
                averages: self.ema.names().len() as u64 * parameters,
                activations: microbatch as u64
                    * (work.kept_bytes(self.compute.dtype) + NUMBER * work.passing),
            },
        })
    }

    /// The rows of the first batches.
    fn rows(&self) -> RowCounts {
        let batch = self.training.batch_size.get();
        let guidance = self.guidance.unwrap_or(Guidance::NONE);
        let batches = (ROWS / batch as u64).clamp(1, BATCHES);
        let mut counted = [0, 0];
        for step in 0..batches {
            let stream = |purpose| RngStream::new(self.seed, purpose, step);
            let times = self.times.draw(batch, &mut stream(Purpose::Times));
            let dropped = self.dropped(times.jumps, step);
            let plan = GuidancePlan::new(&guidance, &times, &dropped);
            counted[0] += times.jumps;
            counted[1] += plan.class_forward.len() + plan.null_forward.len();
            if self.network.has_dropout() {
                counted[1] += plan.class_reuse.len();
            }
        }
        let [jumps, guidance] = counted.map(|rows| rows as f64 / (batches as f64 * batch as f64));
        RowCounts { jumps, guidance }
    }
}

/// Shares of the rows of a batch.
struct RowCounts {
    /// Rows with `r < t`.
    jumps: f64,
    /// Rows of forwards that only guidance needs; more than 1 is possible.
    guidance: f64,
}
