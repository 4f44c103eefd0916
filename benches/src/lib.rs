//! Set-ups that the benchmarks share: models of the sizes that are compared, with a batch of random data.

use meanflow_cfg::Guidance;
use meanflow_core::random::{Purpose, Stream};
use meanflow_core::{
    AdaptiveWeight, IntervalLaw, JumpRows, MaskOrder, Reduction, Schedule, TimeLaw,
};
use meanflow_torch::layers::TimeEmbedding;
use meanflow_torch::networks::{DitConfig, NetworkConfig};
use meanflow_torch::{
    Adam, AdamConfig, Batch, Device, Engine, Kind, Model, ModelConfig, Objective, Tensor,
    TorchError, ema,
};

/// A size that all rivals know.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Its name on the command line.
    pub name: &'static str,
    shape: [i64; 3],
    classes: i64,
    patch: i64,
    width: i64,
    depth: i64,
    heads: i64,
    batch: usize,
}

/// The sizes of benches/README.md.
pub const SIZES: [Size; 2] = [
    Size {
        name: "digits",
        shape: [1, 8, 8],
        classes: 10,
        patch: 2,
        width: 96,
        depth: 4,
        heads: 4,
        batch: 128,
    },
    Size {
        name: "s4",
        shape: [4, 32, 32],
        classes: 1000,
        patch: 4,
        width: 384,
        depth: 12,
        heads: 6,
        batch: 32,
    },
];

/// A model with its optimiser, its average and a batch: everything of a training step.
#[derive(Debug)]
pub struct Training {
    model: Model,
    average: Model,
    optimizer: Adam,
    data: Tensor,
    labels: Vec<i64>,
    step: u64,
}

impl Training {
    /// A fresh training of that size on random data.
    ///
    /// # Errors
    /// If the device refuses.
    pub fn new(size: Size, device: Device) -> Result<Self, TorchError> {
        let Size {
            patch,
            width,
            depth,
            heads,
            ..
        } = size;
        let embedding = TimeEmbedding::TH;
        let network = NetworkConfig::Dit(DitConfig {
            patch,
            width,
            depth,
            heads,
            mlp_ratio: 4.0,
            embedding,
        });
        let config = ModelConfig {
            network,
            shape: size.shape.to_vec(),
            classes: size.classes,
            schedule: Schedule::Linear,
        };
        let model = Model::new(config, 0, device, Kind::Float)?;
        let adam = AdamConfig {
            beta1: 0.9,
            beta2: 0.95,
            epsilon: 1e-8,
            weight_decay: 0.0,
            decoupled: true,
        };
        let mut shape = vec![size.batch as i64];
        shape.extend(size.shape);
        Ok(Self {
            average: model.twin(),
            optimizer: Adam::new(model.parameters(), adam),
            data: Tensor::randn(shape, (Kind::Float, device)),
            labels: (0..size.batch as i64)
                .map(|row| row % size.classes)
                .collect(),
            model,
            step: 0,
        })
    }

    /// One whole step: draw, loss, backward, AdamW, EMA.
    ///
    /// # Errors
    /// If libtorch refuses.
    pub fn step(&mut self, variant: Variant, jump_share: f64) -> Result<(), TorchError> {
        self.step += 1;
        let batch = self.batch(if variant == Variant::Plain {
            0.0
        } else {
            jump_share
        });
        let objective = Objective {
            schedule: Schedule::Linear,
            weight: AdaptiveWeight {
                power: 1.0,
                offset: 0.01,
                reduction: Reduction::Sum,
            },
            guidance: Guidance::NONE,
            engine: if variant == Variant::ForwardAd {
                Engine::Forward
            } else {
                Engine::Dual
            },
        };
        self.model.parameters().zero_grad();
        let loss = match variant {
            Variant::Plain => objective.flow_matching_loss(&self.model, &batch)?,
            Variant::Dual | Variant::ForwardAd => objective.loss(&self.model, &batch)?,
        };
        loss.loss.backward();
        self.optimizer.step(1e-4)?;
        ema::update(self.average.parameters(), self.model.parameters(), 0.9999)
    }

    fn batch(&self, jump_share: f64) -> Batch {
        let law = IntervalLaw {
            t: TimeLaw::LogitNormal {
                mean: -0.4,
                std: 1.0,
            },
            r: None,
            jump_rows: JumpRows::Count { share: jump_share },
            order: MaskOrder::AfterOrdering,
        };
        let rows = self.labels.len();
        let mut drop = Stream::new(0, Purpose::Labels, self.step);
        Batch {
            data: self.data.shallow_clone(),
            noise: self.data.randn_like(),
            labels: Some(self.labels.clone()),
            times: law.draw(rows, &mut Stream::new(0, Purpose::Times, self.step)),
            dropped: (0..rows).map(|_| drop.uniform() < 0.1).collect(),
            augment: None,
            dropout: None,
        }
    }
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
