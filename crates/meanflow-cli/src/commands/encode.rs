//! `meanflow data encode`: pictures to the latents of a VAE.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Instant;

use meanflow_data::decode::Channels;
use meanflow_data::{BadPictures, DataError, Dataset, ImageDataset};
use meanflow_torch::networks::{Vae, VaeFiles};
use meanflow_train::latents::{encode, facts_of};
use serde_json::json;

use crate::commands::named_data::{self, Look, Named};
use crate::commands::opening::open_device;
use crate::commands::ranks;
use crate::commands::unfinished::{self, Unfinished};
use crate::options::Compute;
use crate::output::{is_json, say};
use crate::progress::Count;
use crate::usage::Usage;

/// Encode pictures by a VAE, for training on latents.
///
/// DIR gets what a recipe reads with `kind = "latents"`: the mean and the logarithm of the variance of every latent, sampled anew
/// at every step, the labels, and which VAE it was.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  \
meanflow data encode configs/cifar10-v0.toml --vae sd-vae-ft-mse/ \\\n    --flip --out data/cifar10-latents\n  \
meanflow data encode data/imagenet/train --size 256 \\\n    --vae sd-vae-ft-mse/ --flip --out data/imagenet256-latents")]
pub(crate) struct Encode {
    /// A recipe (.toml), whose pictures are taken as they are, a folder with MNIST's or CIFAR's files, or `digits`; with --size a
    /// folder, zip or tar archives of pictures
    #[arg(value_name = "DATA")]
    data: PathBuf,
    /// Read PNG and JPEG files, each cut to its centre square of N×N pixels as ADM does
    #[arg(long, value_name = "N")]
    size: Option<NonZeroUsize>,
    #[command(flatten)]
    look: Look,
    /// A VAE as diffusers writes it: a folder, or its weights (.safetensors) with config.json beside them
    #[arg(long, value_name = "DIR|FILE")]
    vae: PathBuf,
    /// What the VAE is called in latents.toml [default: the name of the folder]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Encode the mirrored pictures too
    #[arg(long)]
    flip: bool,
    /// The folder to write; it must be empty, or not exist
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    #[command(flatten)]
    compute: Compute,
}

pub(crate) fn run(args: &Encode) -> anyhow::Result<u8> {
    let out = args.out.display();
    unfinished::refuse_others(&args.out, "it must be empty, or not exist")?;
    let device = open_device(&args.compute)?;
    let vae = Vae::load(&args.vae, device)?;
    let weights = VaeFiles::of(&args.vae).weights;
    let name = args.name.clone().unwrap_or_else(|| name_of(&weights));
    let facts = facts_of(&vae, &name, &weights)?;
    let data = open(args)?;
    let start = Instant::now();
    let team = ranks::team()?;
    let unfinished = team.leads().then(|| Unfinished::begin(&args.out));
    let unfinished = unfinished.transpose()?;
    let passes = if args.flip { 2 } else { 1 };
    let progress = Count::named("pictures", passes * data.len());
    let done = |more| progress.add(more);
    encode((&*data, args.flip), &vae, &facts, &args.out, &team, done)?;
    progress.finish();
    let Some(unfinished) = unfinished else {
        return Ok(0);
    };
    unfinished.finish()?;
    let (pictures, seconds) = (data.len(), start.elapsed().as_secs_f64());
    if is_json() {
        let report = json!({
            "out": args.out, "pictures": pictures, "flip": args.flip, "seconds": seconds, "vae": facts.vae,
            "scale": facts.scale, "shift": facts.shift, "vae_sha256": facts.vae_sha256,
        });
        say(format_args!("{report:#}"));
    } else {
        say(format_args!("{out}: {pictures} latents, {seconds:.1} s"));
    }
    Ok(0)
}

/// The name of the folder that weights are in.
fn name_of(weights: &Path) -> String {
    let folder = weights.canonicalize().ok();
    let folder = folder.as_deref().and_then(Path::parent);
    let name = folder.and_then(Path::file_name);
    name.map_or_else(
        || "vae".to_owned(),
        |name| name.to_string_lossy().into_owned(),
    )
}

/// Pictures of a recipe or of files, cut to one size where they are encoded.
fn open(args: &Encode) -> anyhow::Result<Box<dyn Dataset>> {
    let path = &args.data;
    match (named_data::open(path, &args.look)?, args.size) {
        (Named::Samples(samples), None) => Ok(samples),
        (Named::Samples(samples), Some(_)) => {
            let (shown, shape) = (path.display(), samples.shape());
            let text = format!("--size: {shown} has samples of one shape already, {shape:?}");
            Err(Usage(text).into())
        }
        (Named::Pictures(pictures), Some(size)) => {
            pictures.refuse_transparent()?;
            let set =
                ImageDataset::new(pictures, size.get(), Channels::Color, BadPictures::Refuse)?;
            Ok(Box::new(set))
        }
        (Named::Pictures(_), None) => {
            let error = DataError::Shape {
                what: "pictures to encode",
                expected: "--size, which they are cut to".to_owned(),
                got: format!("none for those in {}", path.display()),
            };
            Err(error.into())
        }
    }
}
