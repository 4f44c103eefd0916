//! Everything of a training step, on random data.

use meanflow_cfg::Guidance;
use meanflow_core::random::{Purpose, Stream};
use meanflow_core::{
    AdaptiveWeight, IntervalLaw, JumpRows, MaskOrder, Reduction, Schedule, TimeLaw,
};
use meanflow_torch::{
    Adam, AdamConfig, Batch, Compute, Device, Engine, Kind, Model, Objective, StepLoss, Tensor,
    TorchError, ema,
};

use crate::Size;

const LABEL_DROP: f64 = 0.1;

/// A model with its optimiser, its average and a batch.
#[derive(Debug)]
pub struct Training {
    model: Model,
    average: Model,
    optimizer: Adam,
    data: Tensor,
    labels: Vec<i64>,
    guidance: Guidance,
    step: u64,
}

/// What a step is made of.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Variant {
    /// Flow matching.
    Plain,
    /// MeanFlow with dual numbers.
    Dual,
    /// MeanFlow with libtorch's forward mode.
    ForwardAd,
}

impl Variant {
    /// All of them with their names in the line protocol.
    pub const ALL: [(&'static str, Self); 3] = [
        ("plain", Self::Plain),
        ("dual", Self::Dual),
        ("forward_ad", Self::ForwardAd),
    ];
}

impl Training {
    /// A fresh training of that size, with batches of so many rows.
    ///
    /// # Errors
    /// If the device refuses.
    pub fn new(
        size: &Size,
        rows: usize,
        guidance: Guidance,
        device: Device,
    ) -> Result<Self, TorchError> {
        let model = Model::new(size.model(), 0, device, Kind::Float)?;
        let adam = AdamConfig {
            beta1: 0.9,
            beta2: 0.95,
            epsilon: 1e-8,
            weight_decay: 0.0,
            decoupled: true,
        };
        let mut shape = vec![rows as i64];
        shape.extend(size.shape());
        tch::manual_seed(0);
        Ok(Self {
            average: model.twin(),
            optimizer: Adam::new(model.parameters(), adam),
            data: Tensor::randn(shape, (Kind::Float, device)),
            labels: (0..rows as i64).map(|row| row % size.classes).collect(),
            model,
            guidance,
            step: 0,
        })
    }

    /// The same training with the network computed in another way.
    pub fn computed(self, compute: Compute) -> Self {
        Self {
            model: self.model.computed(compute),
            ..self
        }
    }

    /// The network that is trained.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Rows of a batch.
    pub fn rows(&self) -> usize {
        self.labels.len()
    }

    /// One whole step: draw, loss, backward, AdamW, EMA.
    ///
    /// # Errors
    /// If libtorch refuses.
    pub fn step(&mut self, variant: Variant, jump_share: f64) -> Result<(), TorchError> {
        self.step += 1;
        let batch = self.batch(jump_share);
        self.model.parameters().zero_grad();
        self.loss(variant, &batch)?.loss.backward();
        self.optimizer.set_rate(1e-4);
        self.optimizer.step()?;
        ema::update(self.average.parameters(), self.model.parameters(), 0.9999)
    }

    /// The loss of a batch: adaptive weight of power 1 over the sum of squares.
    ///
    /// # Errors
    /// If libtorch refuses.
    pub fn loss(&self, variant: Variant, batch: &Batch) -> Result<StepLoss, TorchError> {
        let objective = Objective {
            schedule: Schedule::Linear,
            weight: AdaptiveWeight {
                power: 1.0,
                offset: 0.01,
                reduction: Reduction::Sum,
            },
            guidance: self.guidance,
            engine: if variant == Variant::ForwardAd {
                Engine::Forward
            } else {
                Engine::Dual
            },
        };
        match variant {
            Variant::Plain => objective.flow_matching_loss(&self.model, batch),
            Variant::Dual | Variant::ForwardAd => objective.loss(&self.model, batch),
        }
    }

    /// The batch of the step, with this share of jump rows.
    pub fn batch(&self, jump_share: f64) -> Batch {
        let law = IntervalLaw {
            t: TimeLaw::LogitNormal {
                mean: -0.4,
                std: 1.0,
            },
            r: None,
            jump_rows: JumpRows::Count { share: jump_share },
            order: MaskOrder::AfterOrdering,
        };
        let rows = self.rows();
        let mut drop = Stream::new(0, Purpose::Labels, self.step);
        Batch {
            data: self.data.shallow_clone(),
            noise: self.data.randn_like(),
            labels: Some(self.labels.clone()),
            times: law.draw(rows, &mut Stream::new(0, Purpose::Times, self.step)),
            dropped: (0..rows).map(|_| drop.uniform() < LABEL_DROP).collect(),
            augment: None,
            dropout: None,
        }
    }
}
