//! Everything of a training step, on random data.

use meanflow_cfg::Guidance;
use meanflow_core::random::{Purpose, RngStream};
use meanflow_torch::{
    Adam, AdamConfig, Average, Batch, Compute, DataParallel, Device, JvpMethod, Kind, Model,
    Objective, Sharing, StepInputs, StepLoss, Tangent, Tensor, TorchError,
};

use crate::{Size, setting};

const LABEL_DROP: f64 = 0.1;

/// A model with its optimiser, its average and a batch.
#[derive(Debug)]
pub struct Training {
    model: Model,
    microbatches: usize,
    threads: DataParallel,
    optimizer: Adam,
    pictures: (Tensor, Vec<i64>),
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
    /// A fresh training of that size, with batches of this number of rows and microbatches, computed in this way.
    ///
    /// # Errors
    /// If the device refuses.
    pub fn new(
        size: &Size,
        (rows, microbatches): (usize, usize),
        guidance: Guidance,
        compute: Compute,
        device: Device,
    ) -> Result<Self, TorchError> {
        let model = Model::new(size.model(), 0, device, Kind::Float)?.computed(compute);
        let (average, optimizer) = (
            model.twin(),
            Adam::new(model.parameters(), AdamConfig::PUBLISHED),
        );
        let weight = Tensor::full([], 1e-4, (Kind::Float, device));
        let average = Average {
            parameters: average.parameters(),
            weight: &weight,
        };
        let sharing = match device {
            Device::Cpu => Sharing::of_this_thread(microbatches),
            _ => Sharing::new(1, microbatches),
        };
        Ok(Self {
            microbatches,
            threads: DataParallel::new(sharing, &model, &optimizer, &[average], None)?,
            optimizer,
            pictures: setting::pictures(size, rows, device),
            model,
            guidance,
            step: 0,
        })
    }

    /// The network that is trained.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Rows of a batch.
    pub fn rows(&self) -> usize {
        self.pictures.1.len()
    }

    /// One whole step: draw, loss, backward, AdamW, EMA; the threads share its microbatches.
    ///
    /// # Errors
    /// If libtorch refuses.
    pub fn step(&mut self, variant: Variant, jump_share: f64) -> Result<(), TorchError> {
        self.step += 1;
        let batch = self.batch(jump_share);
        let objective = self.objective(variant);
        let inputs = |one: &Batch| StepInputs::new(&objective, &self.model, one);
        let microbatches = batch.microbatches(self.microbatches);
        let mut inputs: Vec<_> = microbatches.iter().map(inputs).collect::<Result<_, _>>()?;
        let done = self
            .threads
            .differentiate(&mut inputs, |model, inputs| match variant {
                Variant::Plain => Ok(objective.flow_matching_loss_of(model, inputs)),
                _ => objective.loss_along(Tangent::TRAJECTORY, model, inputs),
            })?;
        self.optimizer.set_lr(1e-4);
        let is_finite = done.grad_norm.isfinite();
        // Nobody asks how large the weights are.
        let _ = self
            .threads
            .update(&mut self.optimizer, None, &is_finite, true)?;
        Ok(())
    }

    /// The loss of a batch, with dual numbers.
    ///
    /// # Errors
    /// If libtorch refuses.
    pub fn loss(&self, batch: &Batch) -> Result<StepLoss, TorchError> {
        self.objective(Variant::Dual).loss(&self.model, batch)
    }

    fn objective(&self, variant: Variant) -> Objective {
        let jvp = match variant {
            Variant::ForwardAd => JvpMethod::ForwardAd,
            Variant::Plain | Variant::Dual => JvpMethod::Dual,
        };
        setting::objective(self.guidance, jvp)
    }

    /// The batch of the step, with this share of MeanFlow rows.
    pub fn batch(&self, jump_share: f64) -> Batch {
        let mut drop = RngStream::new(0, Purpose::Labels, self.step);
        let dropped = (0..self.rows()).map(|_| drop.uniform() < LABEL_DROP);
        setting::batch(&self.pictures, jump_share, self.step, dropped.collect())
    }
}
