//! From a recipe's data section to batches of tensors.

use std::num::NonZeroUsize;

use meanflow_core::random::{Purpose, Stream};
use meanflow_data::{Dataset, EpochOrder, digits, idx, toy};
use meanflow_torch::{Batch, Device, ModelConfig, Tensor};

use crate::TrainError;
use crate::config::{DataConfig, TrainConfig};

impl DataConfig {
    /// Reads or makes the data set.
    ///
    /// # Errors
    /// With the file that is missing or damaged.
    pub fn load(&self, seed: u64) -> Result<Dataset, TrainError> {
        Ok(match self {
            Self::Digits { .. } => digits::load()?,
            Self::Idx { path, .. } => idx::read_directory(path)?,
            Self::Checkerboard { size } => toy::checkerboard(size.get(), seed)?,
        })
    }
}

impl TrainConfig {
    /// The model that this recipe trains on this data.
    ///
    /// # Errors
    /// When the sizes describe no network for it.
    pub fn model(&self, data: &Dataset) -> Result<ModelConfig, TrainError> {
        let config = ModelConfig {
            network: self.network.clone(),
            shape: data.shape().iter().map(|&side| side as i64).collect(),
            classes: if self.is_conditional() {
                data.classes() as i64
            } else {
                0
            },
            schedule: self.path,
        };
        config.validate()?;
        Ok(config)
    }
}

/// Batches as functions of the step: whatever is random comes from a stream of (seed, purpose, step).
#[derive(Debug)]
pub(crate) struct Batches {
    data: Dataset,
    order: EpochOrder,
    device: Device,
    conditional: bool,
}

impl Batches {
    /// Batches for the recipe, which the data set was made for.
    pub(crate) fn new(config: &TrainConfig, data: Dataset, device: Device) -> Self {
        let len = NonZeroUsize::new(data.len()).expect("a data set is never empty");
        let order = EpochOrder::new(len, config.training.batch, config.seed);
        Self {
            data,
            order,
            device,
            conditional: config.is_conditional(),
        }
    }

    /// The batch of a step, counted from 0.
    pub(crate) fn at(&mut self, config: &TrainConfig, step: u64) -> Batch {
        let rows = config.training.batch.get();
        let stream = |purpose| Stream::new(config.seed, purpose, step);
        let examples = self.data.batch(&self.order.batch_at(step));
        let mut noise = vec![0.0; examples.values.len()];
        stream(Purpose::Noise).fill_normal(&mut noise);
        let times = config.times.draw(rows, &mut stream(Purpose::Times));
        let dropped = match &config.label_drop {
            Some(drop) => drop.draw(rows, times.jumps, &mut stream(Purpose::Labels)),
            None => vec![false; rows],
        };
        Batch {
            data: self.tensor(&examples.values),
            noise: self.tensor(&noise),
            labels: self.conditional.then_some(examples.labels),
            times,
            dropped,
            augment: None,
            dropout: Some(stream(Purpose::Dropout).below(u64::MAX)),
        }
    }

    /// `[B, …]` from its values.
    fn tensor(&self, values: &[f32]) -> Tensor {
        let mut shape = vec![-1];
        shape.extend(self.data.shape().iter().map(|&side| side as i64));
        Tensor::from_slice(values)
            .reshape(shape)
            .to_device(self.device)
    }
}
