//! What every rival is told on its command line.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};
use meanflow_cfg::{Guidance, GuidanceInterval};
use meanflow_torch::{Compute, Device, Dtype, TorchError, device};
use serde::{Deserialize, Serialize};

use crate::{Size, Training};

/// A rival of `cargo xtask bench`, driven by the line protocol of benches/README.md.
#[derive(Clone, Debug, Parser)]
pub struct Options {
    /// A size of benches/sizes.json.
    #[arg(long)]
    pub size: String,
    /// cpu or cuda.
    #[arg(long, default_value = "cpu")]
    pub device: String,
    /// Threads [default: as libtorch likes].
    #[arg(long)]
    pub threads: Option<i32>,
    /// Guidance of the target.
    #[arg(long, value_enum, default_value = "none")]
    pub guidance: Guide,
    /// The dtype of matrix products over parameters in f32.
    #[arg(long, value_enum, default_value = "f32")]
    pub precision: MatmulPrecision,
    /// Rows of a batch [default: those of the size on the device].
    #[arg(long)]
    pub batch: Option<usize>,
    /// Microbatches of a batch, which threads share.
    #[arg(long, default_value_t = 1)]
    pub microbatches: usize,
    /// Instead of obeying lines, prints the peak memory of a step of every variant, and ends.
    #[arg(long)]
    pub peaks: bool,
    /// Instead of obeying lines, writes weights, a batch, the loss and its gradients to a file, and ends.
    #[arg(long, value_name = "FILE")]
    pub export: Option<PathBuf>,
}

/// The guidance of a comparison; both guided ones have the effective scale 2.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum Guide {
    /// None.
    None,
    /// ω = 2, κ = 0.
    Kappa0,
    /// ω = 1, κ = ½, as the published B/4.
    Kappa,
}

/// The dtype of matrix products; parameters and their optimiser are in f32.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum MatmulPrecision {
    /// Every product in f32.
    F32,
    /// Products in f32 of factors that a CUDA device rounds to TF32.
    Tf32,
    /// Products inside of blocks in bfloat16, the others in f32.
    Bf16,
}

impl MatmulPrecision {
    /// Allows TF32 in this process or forbids it, and gives the precision of a network.
    pub fn apply(self) -> Compute {
        device::allow_tf32(self == Self::Tf32);
        Compute {
            dtype: if self == Self::Bf16 {
                Dtype::Bf16
            } else {
                Dtype::F32
            },
            activation_checkpointing: false,
        }
    }
}

impl Guide {
    /// Its scales, at all times.
    pub fn scales(self) -> Guidance {
        let (omega, kappa) = match self {
            Self::None => return Guidance::NONE,
            Self::Kappa0 => (2.0, 0.0),
            Self::Kappa => (1.0, 0.5),
        };
        Guidance::new(omega, kappa, GuidanceInterval::ALL).expect("scales within their bounds")
    }
}

impl Options {
    /// Opens the device and sets the threads.
    ///
    /// # Errors
    /// If there is no such device.
    pub fn device(&self) -> Result<Device, TorchError> {
        if let Some(threads) = self.threads {
            tch::set_num_threads(threads);
        }
        Ok(device::open(&self.device)?)
    }

    /// The size.
    ///
    /// # Errors
    /// If it is unknown.
    pub fn size(&self) -> Result<Size, String> {
        Size::named(&self.size).ok_or_else(|| format!("--size: unknown {}", self.size))
    }

    /// A fresh training as these options say.
    ///
    /// # Errors
    /// If the size is unknown, or the device refuses.
    pub fn training(&self, device: Device) -> Result<Training, Box<dyn std::error::Error>> {
        let size = self.size()?;
        let rows = self.batch.unwrap_or_else(|| size.rows(device));
        let guidance = self.guidance.scales();
        let compute = self.precision.apply();
        Ok(Training::new(
            &size,
            (rows, self.microbatches),
            guidance,
            compute,
            device,
        )?)
    }
}
