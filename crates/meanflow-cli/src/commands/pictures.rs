//! `meanflow data verify`, `stats` and `pack`: a look at pictures, and a copy of them in one file.

use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::ValueEnum;
use meanflow_data::ImageArchive;
use meanflow_data::decode::View;
use meanflow_data::pack::{Packing, pack};
use meanflow_data::survey::{DatasetReport, Depth, Kinds};
use serde_json::{Value, json};

use crate::commands::listing::{LINES, rest, say_remarks};
use crate::commands::named_data::{self, Look, Named};
use crate::commands::samples;
use crate::failure::DATA;
use crate::output::{is_json, say};
use crate::progress::Count;
use crate::usage::Usage;

/// Decode every picture of a folder, a zip archive or tar archives, and list the damaged ones. Of a recipe's data, MNIST's or
/// CIFAR's files and latents every sample is read, and the first damage named.
///
/// The exit code is 4 if there is any.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  meanflow data verify data/pictures")]
pub(crate) struct Verify {
    #[command(flatten)]
    pictures: Pictures,
}

/// Count the pictures of every class and size, and those that are transparent, turned, of 16 bits or CMYK, from their headers alone; of other data the samples of every class, with mean and deviation
/// of every channel.
///
/// The exit code is 4 if a header cannot be read.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  meanflow data stats data/pictures.zip --json")]
pub(crate) struct Stats {
    #[command(flatten)]
    pictures: Pictures,
}

#[derive(Debug, clap::Args)]
struct Pictures {
    /// A folder of pictures, or of classes with pictures; a zip archive in EDM's layout; a WebDataset archive or a folder of them; for
    /// verify and stats also a recipe, a folder with MNIST's, CIFAR's or latents' files, or `digits`
    #[arg(value_name = "PATH")]
    path: PathBuf,
    #[command(flatten)]
    look: Look,
}

/// Put pictures and labels into one zip archive in EDM's layout, which recipes read with `kind = "zip"`.
///
/// Without --size the files go in as they are. The first damaged picture is an error.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  meanflow data pack data/pictures --size 64 --out data/pictures-64.zip"
)]
pub(crate) struct Pack {
    #[command(flatten)]
    pictures: Pictures,
    /// Cut every picture to its centre square of N×N pixels, as ADM does, and store it as PNG
    #[arg(long, value_name = "N")]
    size: Option<NonZeroUsize>,
    /// What pictures are turned into, with --size
    #[arg(long, value_enum, requires = "size", default_value = "color")]
    colors: Colors,
    /// The archive to write, which must not exist
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Colors {
    Grey,
    Color,
}

pub(crate) fn verify(args: &Verify) -> anyhow::Result<u8> {
    report(&args.pictures, Depth::Pixels)
}

pub(crate) fn stats(args: &Stats) -> anyhow::Result<u8> {
    report(&args.pictures, Depth::Header)
}

pub(crate) fn run_pack(args: &Pack) -> anyhow::Result<u8> {
    let out = args.out.display();
    if args.out.exists() {
        return Err(Usage(format!(
            "--out {out}: expected a new file, got one that exists"
        ))
        .into());
    }
    let Named::Pictures(collection) = named_data::open(&args.pictures.path, &args.pictures.look)?
    else {
        let path = args.pictures.path.display();
        let text = format!(
            "{path}: expected PNG and JPEG files; recipes read other data as they are, in few files already"
        );
        return Err(Usage(text).into());
    };
    if args.size.is_some() {
        collection.refuse_transparent()?;
    }
    let packing = args.size.map_or(Packing::AsTheyAre, |size| {
        let channels = args.colors.channels();
        let size = size.get();
        Packing::Crop { size, channels }
    });
    say_remarks(collection.remarks());
    let progress = Count::named("pictures", collection.len());
    pack(&collection, packing, &args.out, |more| progress.add(more))?;
    progress.finish();
    let (pictures, classes) = (collection.len(), collection.classes());
    let bytes = size_of(&args.out)?;
    if is_json() {
        let report =
            json!({"out": args.out, "pictures": pictures, "classes": classes, "bytes": bytes});
        say(format_args!("{report:#}"));
    } else {
        say(format_args!(
            "{out}: {pictures} pictures in {classes} classes, {bytes} bytes"
        ));
    }
    Ok(0)
}

fn size_of(path: &Path) -> anyhow::Result<u64> {
    let metadata = fs::metadata(path).with_context(|| path.display().to_string())?;
    Ok(metadata.len())
}

fn report(args: &Pictures, depth: Depth) -> anyhow::Result<u8> {
    let collection = match named_data::open(&args.path, &args.look)? {
        Named::Samples(data) => return samples::report(&args.path, &*data),
        Named::Pictures(collection) => collection,
    };
    say_remarks(collection.remarks());
    let progress = Count::named("pictures", collection.len());
    let survey = DatasetReport::of(&collection, depth, |more| progress.add(more));
    progress.finish();
    if is_json() {
        say(format_args!("{:#}", as_json(args, &collection, &survey)));
    } else {
        say(as_text(args, &collection, &survey).trim_end());
    }
    Ok(if survey.damaged.is_empty() { 0 } else { DATA })
}

fn as_json(args: &Pictures, collection: &ImageArchive, survey: &DatasetReport) -> Value {
    let classes: Vec<Value> = classes(collection)
        .into_iter()
        .map(|(label, name, pictures)| json!({"label": label, "name": name, "pictures": pictures}))
        .collect();
    let sizes = survey.sizes.iter().map(|([height, width], pictures)| {
        json!({"height": height, "width": width, "pictures": pictures})
    });
    let damaged = survey.damaged.iter();
    let damaged = damaged.map(|(path, reason)| json!({"file": path, "reason": reason}));
    json!({
        "path": args.path, "pictures": collection.len(), "bytes": survey.bytes, "ignored": collection.ignored(),
        "others": collection.others(), "remarks": collection.remarks(), "alpha": survey.kinds.alpha,
        "oriented": survey.kinds.turned, "sixteen_bit": survey.kinds.sixteen_bit, "cmyk": survey.kinds.cmyk,
        "classes": classes, "sizes": sizes.collect::<Vec<_>>(), "damaged": damaged.collect::<Vec<_>>(),
    })
}

fn as_text(args: &Pictures, collection: &ImageArchive, survey: &DatasetReport) -> String {
    let path = args.path.display();
    let (pictures, ignored) = (collection.len(), collection.ignored());
    let bytes = survey.bytes;
    let others: Vec<String> = collection
        .others()
        .iter()
        .take(LINES)
        .map(|(end, count)| format!("{count} × {end}"))
        .collect();
    let others = if others.is_empty() {
        String::new()
    } else {
        format!(" ({})", others.join(", "))
    };
    let mut text =
        format!("{path}: {pictures} pictures, {bytes} bytes, {ignored} other files{others}\n");
    let classes = classes(collection);
    text += &format!("classes     {}\n", classes.len());
    for (label, name, pictures) in classes.iter().take(LINES) {
        text += &format!("  {label} {}  {pictures}\n", name.unwrap_or_default());
    }
    text += &rest(classes.len());
    let mut sizes: Vec<_> = survey.sizes.iter().collect();
    sizes.sort_by_key(|(_, pictures)| std::cmp::Reverse(**pictures));
    text += &format!("sizes       {}\n", sizes.len());
    for ([height, width], pictures) in sizes.iter().take(LINES) {
        text += &format!("  {height}×{width}  {pictures}\n");
    }
    text += &rest(sizes.len());
    for (_, pictures, what) in kinds(&survey.kinds, collection.view()) {
        if pictures > 0 {
            text += &format!("special     {pictures} {what}\n");
        }
    }
    text += &format!("damaged     {}\n", survey.damaged.len());
    for (_, reason) in &survey.damaged {
        text += &format!("  {reason}\n");
    }
    text
}

/// Every class with its name, if it has one, and the number of its pictures.
fn classes(collection: &ImageArchive) -> Vec<(usize, Option<&str>, usize)> {
    let (count, names) = (collection.classes(), collection.class_names());
    samples::classes(count, collection.labels(), names)
}

/// How many pictures are not plain, with what becomes of them.
pub(super) fn kinds(kinds: &Kinds, view: View) -> [(&'static str, usize, String); 4] {
    let background = match view.background {
        Some(background) => format!(", laid over {background}"),
        None => ": set data.background".to_owned(),
    };
    let turned = if view.apply_orientation {
        "turned by their Exif orientation"
    } else {
        "not turned by their Exif orientation: data.apply_orientation"
    };
    [
        (
            "alpha",
            kinds.alpha,
            format!("that may be transparent{background}"),
        ),
        ("oriented", kinds.turned, turned.to_owned()),
        (
            "sixteen_bit",
            kinds.sixteen_bit,
            "of 16 bits a sample, of which the upper 8 are kept".to_owned(),
        ),
        (
            "cmyk",
            kinds.cmyk,
            "in CMYK, turned into RGB without a profile".to_owned(),
        ),
    ]
}
