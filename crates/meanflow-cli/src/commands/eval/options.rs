//! What `meanflow eval` is asked for.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use meanflow_eval::MetricFamily;

use crate::commands::named_data::Look;
use crate::commands::opening::CheckpointArgs;
use crate::options::{Compute, Reading};
use crate::route::OdeRoute;

/// Measure a model against data: distances, scores, residuals of its identities; report.json and report.html say how.
///
/// Samples of the same network are drawn in 1, 2, 4 and 8 steps, and by its flow-matching ODE where asked for. Everything is repeated with
/// other seeds, which gives the intervals.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  meanflow eval runs/digits\n  \
meanflow eval runs/digits --steps 1,2 --ode heun:50 --repeats 5 --out report\n  \
meanflow eval batch.npz --ref statistics.npz \\\n    --features inception:inception.safetensors --metrics fid --out report")]
pub(crate) struct Eval {
    /// A run folder, a weights file (.safetensors), or pictures drawn before: an .npz with arr_0, a folder, a .zip or .tar
    #[arg(value_name = "MODEL|PICTURES")]
    pub(super) model: PathBuf,
    #[command(flatten)]
    pub(super) checkpoint: CheckpointArgs,
    /// Statistics of features (.npz), a recipe (.toml) whose data is taken as it is, pictures (also a folder with MNIST's or CIFAR's files), or `digits` [default: the data the model was trained on]
    #[arg(long = "ref", value_name = "STATS|DATA")]
    pub(super) reference: Option<PathBuf>,
    /// pixels, digits (a classifier of 8×8 digits), inception:FILE, or a .safetensors of your own [default: digits for such pictures, else pixels]
    #[arg(long, value_name = "FEATURES")]
    pub(super) features: Option<String>,
    /// How Inception's pictures are resized: clean, legacy_tf, legacy_pytorch
    #[arg(long, value_name = "MODE", default_value = "clean")]
    pub(super) resize: String,
    /// The VAE that turns the model's latents into pictures: a folder as diffusers writes it, or its weights (.safetensors)
    #[arg(long, value_name = "DIR|FILE")]
    pub(super) vae: Option<PathBuf>,
    /// Which metrics: one that cannot be computed is an error [default: all that can be computed]
    #[arg(long, value_delimiter = ',', value_enum)]
    pub(super) metrics: Vec<MetricChoice>,
    /// Numbers of sampling steps
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_values = ["1", "2", "4", "8"])]
    pub(super) steps: Vec<NonZeroUsize>,
    /// Also the flow-matching ODE of the same network: euler:N, heun:N, rk4:N or adaptive:TOLERANCE
    #[arg(long, value_name = "METHOD")]
    pub(super) ode: Option<OdeRoute>,
    /// Samples of one repetition [default: as many as the reference has, at most 50000]; of pictures the first ones [default: all]
    #[arg(long, value_name = "N")]
    pub(super) samples: Option<NonZeroUsize>,
    /// Repetitions with other seeds
    #[arg(long, value_name = "N", default_value = "3")]
    pub(super) repeats: NonZeroUsize,
    /// The first seed; a repetition has the seeds after those of the one before
    #[arg(long, value_name = "SEED", default_value = "0")]
    pub(super) seed: u64,
    /// Classes: data (the reference's, in its proportions), balanced, random
    #[arg(long, value_enum, default_value = "data")]
    pub(super) labels: Labels,
    /// Draw nothing: put together what the ranks of a sharded evaluation have left in --out
    #[arg(long)]
    pub(super) merge: bool,
    /// Where report.json and report.html go [default: the run folder, for its last weights]
    #[arg(long, value_name = "DIR")]
    pub(super) out: Option<PathBuf>,
    #[command(flatten)]
    pub(super) look: Look,
    #[command(flatten)]
    pub(super) reading: Reading,
    #[command(flatten)]
    pub(super) compute: Compute,
}

/// What can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, clap::ValueEnum)]
pub(super) enum MetricChoice {
    /// Fréchet distance: `fid` over Inception's features, else `fd_FEATURES`.
    Fid,
    /// Kernel distance: `kid` over Inception's features, else `kd_FEATURES`.
    Kid,
    /// Precision and recall.
    Pr,
    /// Inception Score, and the share of samples with the class asked for.
    Is,
}

impl MetricChoice {
    pub(super) fn family(self) -> MetricFamily {
        match self {
            Self::Fid => MetricFamily::Frechet,
            Self::Kid => MetricFamily::Kernel,
            Self::Pr => MetricFamily::PrecisionRecall,
            Self::Is => MetricFamily::Score,
        }
    }
}

/// Which classes a model is asked for.
#[derive(Clone, Copy, Debug, PartialEq, clap::ValueEnum)]
pub(super) enum Labels {
    /// The classes of the reference in its proportions, however few samples there are.
    Data,
    /// Seed s has class s modulo their number.
    Balanced,
    /// Uniform, from the seed.
    Random,
}

impl Labels {
    /// Its description in a protocol.
    pub(super) fn description(self) -> &'static str {
        match self {
            Self::Data => {
                "data: the reference's labels, shuffled so that any number of samples has its proportions of classes"
            }
            Self::Balanced => "balanced: seed s has class s modulo their number",
            Self::Random => "random: uniform, from the seed",
        }
    }
}
