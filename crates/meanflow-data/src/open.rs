//! One set of rules for whatever data a path names.

use std::path::Path;

use crate::cifar::{self, Part, Variant};
use crate::collection::has_shards;
use crate::latents::{self, Latents};
use crate::{DataError, Dataset, ImageArchive, Links, digits, idx};

/// What a path led to.
#[derive(Debug)]
pub enum Opened {
    /// Encoded pictures of any sizes.
    Pictures(ImageArchive),
    /// Samples of one shape.
    Samples(Box<dyn Dataset>),
}

/// What can be opened, for messages.
const KNOWN: &str =
    "a folder, `digits`, or a file that ends in .zip, .tar, .safetensors, .png, .jpg or .jpeg";

/// Opens whatever data a path leads to, as they are, without augmentation.
///
/// The first of these rules that fits decides; endings are compared without regard to case:
///
/// 1. `digits` are the digits inside of the program (`./digits` is a folder);
/// 2. a file: `.zip` and `.tar` are archives of pictures, `.safetensors` latents, `.png`, `.jpg` and `.jpeg` a picture without class;
/// 3. a folder with `latents.toml` or `latents.safetensors` is one of latents, with CIFAR's or MNIST's training files of these,
///    with `*.tar` of shards; any other is a folder of pictures, in which links may lead as `links` say.
///
/// # Errors
/// Those of the reader; [`DataError::Field`] for a file of another kind.
///
/// ```
/// use meanflow_data::{Links, Opened, open};
///
/// let Opened::Samples(digits) = open("digits".as_ref(), Links::Inside)? else { panic!() };
/// assert_eq!(digits.len(), 1797);
/// // What is not there is an error that says which file.
/// assert!(open("nothing.zip".as_ref(), Links::Inside).unwrap_err().to_string().contains("nothing.zip"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn open(path: &Path, links: Links) -> Result<Opened, DataError> {
    if path == Path::new("digits") {
        return Ok(samples(digits::load()?));
    }
    let metadata = path.metadata().map_err(DataError::io(path))?;
    if metadata.is_dir() {
        return folder(path, links);
    }
    crate::file::refuse_other(path, metadata.file_type())?;
    let end = path.extension().unwrap_or_default().to_ascii_lowercase();
    match end.to_str().unwrap_or_default() {
        "zip" => ImageArchive::open_zip(path).map(Opened::Pictures),
        "tar" => ImageArchive::open_tar(path).map(Opened::Pictures),
        "safetensors" => Latents::open_as_found(path).map(samples),
        "png" | "jpg" | "jpeg" => ImageArchive::open_picture(path).map(Opened::Pictures),
        other => {
            let hint = match other {
                "gz" | "tgz" | "bz2" | "xz" | "zst" => {
                    " (a compressed archive has to be unpacked to .tar first)"
                }
                _ => "",
            };
            DataError::refuse(path, 0, "kind of data", KNOWN, format!(".{other}{hint}"))
        }
    }
}

impl ImageArchive {
    /// Opens pictures, whatever a path leads to, by the rules of [`open`].
    ///
    /// # Errors
    /// As [`open`], and [`DataError::Field`] for data that are no encoded pictures.
    pub fn open(path: &Path) -> Result<Self, DataError> {
        match open(path, Links::Inside)? {
            Opened::Pictures(pictures) => Ok(pictures),
            Opened::Samples(_) => {
                let (expected, got) = ("PNG and JPEG files", "numbers that are samples already");
                DataError::refuse(path, 0, "pictures", expected, got)
            }
        }
    }
}

fn folder(path: &Path, links: Links) -> Result<Opened, DataError> {
    if latents::is_there(path) {
        return Latents::open_as_found(path).map(samples);
    }
    for variant in [Variant::Ten, Variant::Hundred] {
        let (files, _) = variant.files(Part::Train);
        if path.join(files[0]).is_file() {
            return cifar::read_directory(path, variant, Part::Train).map(samples);
        }
    }
    if idx::is_there(path) {
        return idx::read_directory(path).map(samples);
    }
    let pictures = if has_shards(path)? {
        ImageArchive::open_tar(path)
    } else {
        ImageArchive::open_folder_by(path, links)
    };
    pictures.map(Opened::Pictures)
}

fn samples(source: impl Dataset + 'static) -> Opened {
    Opened::Samples(Box::new(source))
}
