//! `meanflow data show`: the data as a network sees them.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use meanflow_data::decode::Channels;
use meanflow_data::{BadPictures, Dataset, ImageDataset};
use meanflow_train::picture_of;
use serde_json::json;

use crate::commands::destination::{Output, write_picture};
use crate::commands::named_data::{self, Look, Named};
use crate::commands::pictures::Colors;
use crate::output::{is_json, is_standard_output, note, say};
use crate::usage::Usage;

/// Draw samples of a data set on one picture, as a network sees them.
///
/// Of a recipe they are the first of its training: cut, over their background, augmented. Of latents the channels are drawn.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  meanflow data show configs/mnist.toml --out grid.png\n  \
meanflow data show data/pictures --size 64 --background white --out grid.png"
)]
pub(crate) struct Show {
    /// A recipe (.toml), a folder, an archive, or `digits`
    #[arg(value_name = "PATH")]
    path: PathBuf,
    /// Height and width that pictures are cut to; a recipe has its own
    #[arg(long, value_name = "N", default_value = "64")]
    size: NonZeroUsize,
    /// What pictures are turned into; a recipe has its own
    #[arg(long, value_enum, default_value = "color")]
    colors: Colors,
    #[command(flatten)]
    look: Look,
    /// Number of samples
    #[arg(long, value_name = "N", default_value = "64")]
    count: NonZeroUsize,
    /// Columns of the picture [default: about as many as rows]
    #[arg(long, value_name = "N")]
    columns: Option<NonZeroUsize>,
    /// Which samples are drawn; a recipe has its own
    #[arg(long, value_name = "SEED", default_value = "0")]
    seed: u64,
    /// The picture to write (.png), or - for standard output
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

pub(crate) fn run(args: &Show) -> anyhow::Result<u8> {
    let output = Output::of(&args.out)?;
    if output != Output::Picture {
        return Err(Usage("--out: expected NAME.png".to_owned()).into());
    }
    output.check(&args.out, false)?;
    let (data, seed) = open(args)?;
    let count = args
        .count
        .min(NonZeroUsize::new(data.len()).unwrap_or(args.count));
    let square = (count.get() as f64).sqrt().ceil() as usize;
    let columns = args.columns.map_or(square, NonZeroUsize::get);
    write_picture(
        &args.out,
        &picture_of(&*data, seed, (count, columns), None)?,
    )?;
    let (out, samples, shape) = (args.out.display(), data.len(), data.shape());
    if is_standard_output(&args.out) {
        return Ok(0);
    }
    if is_json() {
        let report = json!({
            "out": args.out, "shown": count, "samples": samples, "shape": shape,
            "classes": data.classes(), "class_names": data.class_names(),
        });
        say(format_args!("{report:#}"));
    } else {
        say(format_args!(
            "{out}: {count} of {samples} samples of shape {shape:?}"
        ));
    }
    Ok(0)
}

/// The samples, as a network sees them, and the seed of their order.
fn open(args: &Show) -> anyhow::Result<(Box<dyn Dataset>, u64)> {
    if let Some(config) = named_data::recipe(&args.path)? {
        let data = config.data.load(config.seed)?;
        for remark in config.data.remarks(&*data) {
            note(format_args!("note: {remark}"));
        }
        return Ok((data, config.seed));
    }
    let data: Box<dyn Dataset> = match named_data::open(&args.path, &args.look)? {
        Named::Samples(samples) => samples,
        Named::Pictures(pictures) => {
            pictures.refuse_transparent()?;
            let (size, channels) = (args.size.get(), args.colors.channels());
            Box::new(ImageDataset::new(
                pictures,
                size,
                channels,
                BadPictures::Refuse,
            )?)
        }
    };
    for remark in data.remarks() {
        note(format_args!("note: {remark}"));
    }
    Ok((data, args.seed))
}

impl Colors {
    /// The same for the library.
    pub(super) fn channels(self) -> Channels {
        match self {
            Self::Grey => Channels::Grey,
            Self::Color => Channels::Color,
        }
    }
}
