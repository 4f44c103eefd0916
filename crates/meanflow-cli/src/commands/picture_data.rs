//! Sets of pictures of any origin, all of one size.

use std::path::Path;

use anyhow::Context;
use meanflow_data::decode::{Channels, dimensions};
use meanflow_data::npy::NpyData;
use meanflow_data::npz::Npz;
use meanflow_data::{BadPictures, Dataset, ImageArchive, ImageDataset, MemoryDataset};

use crate::commands::named_data::{self, Look, Named};
use crate::progress::Count;
use crate::usage::Usage;

/// Largest archive of pictures that is read into memory.
const MOST_BYTES: u64 = 16 << 30;

/// A set of pictures with the names of its classes, where there are some.
pub(crate) struct PictureData {
    pub(crate) source: Box<dyn Dataset>,
    pub(crate) class_names: Option<Vec<String>>,
}

/// Files that hold pickles, or are made of them.
const PICKLES: [&str; 5] = ["pkl", "pickle", "pt", "pth", "bin"];

/// Opens a recipe's data without augmentation, an archive of samples (`.npz`), or whatever [`meanflow_data::open()`] knows. Without a
/// number of channels, encoded pictures have one where the first of them is grey.
pub(crate) fn open(
    path: &Path,
    channels: Option<usize>,
    look: &Look,
) -> anyhow::Result<PictureData> {
    let end = path.extension().unwrap_or_default().to_ascii_lowercase();
    let end = end.to_string_lossy();
    if end == "npz" {
        return Ok(named(Box::new(archive(path)?)));
    }
    if path.is_file()
        && !matches!(
            &*end,
            "toml" | "zip" | "tar" | "safetensors" | "png" | "jpg" | "jpeg"
        )
    {
        return Err(Usage(unknown(path, &end)).into());
    }
    match named_data::open(path, look)? {
        Named::Samples(source) => Ok(named(source)),
        Named::Pictures(pictures) => encoded(pictures, channels),
    }
}

/// A source with the names of its classes.
fn named(source: Box<dyn Dataset>) -> PictureData {
    let class_names = source.class_names().map(<[String]>::to_vec);
    PictureData {
        source,
        class_names,
    }
}

/// What is said of a file that is neither pictures nor statistics.
fn unknown(path: &Path, end: &str) -> String {
    let hint = if PICKLES.contains(&end) {
        "; a pickle is never read: save its arrays by numpy.savez(FILE, mu=…, sigma=…)"
    } else {
        ""
    };
    format!(
        "{}: expected an .npz (statistics, or pictures as arr_0), a folder, .zip or .tar of pictures, or a recipe, got .{end}{hint}",
        path.display()
    )
}

/// `arr_0`, pictures `[N, H, W, C]` of bytes, and `arr_1`, their labels, if they are there.
fn archive(path: &Path) -> anyhow::Result<MemoryDataset> {
    let mut file = Npz::open(path, MOST_BYTES)?;
    let shown = path.display();
    let refuse = |text: String| Usage(format!("{shown}: {text}"));
    if !file.names().iter().any(|name| name == "arr_0") {
        let got = file.names().join(", ");
        let text =
            format!("expected arr_0, pictures, or mu and sigma, statistics, got arrays {got}");
        return Err(refuse(text).into());
    }
    let array = file.read("arr_0")?;
    let (NpyData::U8(mut bytes), &[count, height, width, channels]) =
        (array.data, &array.shape[..])
    else {
        let got = &array.shape;
        let text = format!(
            "expected arr_0, uint8 pictures [N, H, W, 1 or 3], got another kind of array, {got:?}"
        );
        return Err(refuse(text).into());
    };
    if !matches!(channels, 1 | 3) {
        let text = format!("expected arr_0 with 1 or 3 channels, got {channels}");
        return Err(refuse(text).into());
    }
    let labels = match file.names().iter().any(|name| name == "arr_1") {
        true => {
            let text = "expected arr_1, the labels, as integers, got floating-point numbers";
            let labels = file.read("arr_1")?.labels();
            labels.ok_or_else(|| refuse(text.to_owned()))?
        }
        false => Vec::new(),
    };
    let largest = labels.iter().max();
    let classes = largest.map_or(0, |&label| label.max(0) as usize + 1);
    to_planes(&mut bytes, height * width, channels);
    let shape = [channels, height, width];
    MemoryDataset::from_pictures(bytes, shape, labels, classes)
        .with_context(|| format!("{shown}: {count} pictures"))
}

/// Turns pictures `[N, pixels, C]` into `[N, C, pixels]` in place, for they may fill half of the memory.
fn to_planes(bytes: &mut [u8], pixels: usize, channels: usize) {
    if channels == 1 || pixels == 0 {
        return;
    }
    let mut planes = Vec::with_capacity(pixels * channels);
    for picture in bytes.chunks_exact_mut(pixels * channels) {
        planes.clear();
        for channel in 0..channels {
            planes.extend(picture.iter().skip(channel).step_by(channels));
        }
        picture.copy_from_slice(&planes);
    }
}

/// Encoded pictures, which must be squares of one size: nothing is resized or cut that a value is said of.
fn encoded(pictures: ImageArchive, channels: Option<usize>) -> anyhow::Result<PictureData> {
    pictures.refuse_transparent()?;
    let side = common_side(&pictures)?;
    let channels = match channels {
        Some(1) => Channels::Grey,
        Some(_) => Channels::Color,
        None => {
            let first = pictures.decode(0, Channels::Color)?;
            let is_grey = |pixel: &[u8]| pixel[0] == pixel[1] && pixel[1] == pixel[2];
            match first.pixels().chunks(3).all(is_grey) {
                true => Channels::Grey,
                false => Channels::Color,
            }
        }
    };
    let source = ImageDataset::new(pictures, side, channels, BadPictures::Refuse)?;
    Ok(named(Box::new(source)))
}

/// The side of all pictures.
fn common_side(pictures: &ImageArchive) -> anyhow::Result<usize> {
    let progress = Count::named("sizes", pictures.len());
    let mut first = None;
    for index in 0..pictures.len() {
        let path = pictures.path(index);
        let [height, width] = dimensions(&path, &pictures.read(index)?)?;
        let side = *first.get_or_insert(height);
        if [height, width] != [side, side] {
            let (shown, one) = (path.display(), pictures.path(0));
            let expected = match index {
                0 => "a square".to_owned(),
                _ => format!("{side}×{side} as {}", one.display()),
            };
            let text = format!(
                "{shown}: expected {expected}, got {height}×{width} (height × width); pictures are neither cut nor resized \
                 here, `meanflow data pack PATH --size N --out FILE.zip` does it"
            );
            return Err(Usage(text).into());
        }
        progress.add(1);
    }
    progress.finish();
    first.ok_or_else(|| Usage("there are no pictures".to_owned()).into())
}

#[cfg(test)]
mod tests {
    use super::to_planes;

    #[test]
    fn channels_become_planes_in_place() {
        let mut bytes = [1, 2, 3, 4, 5, 6, 11, 12, 13, 14, 15, 16];
        to_planes(&mut bytes, 2, 3);
        assert_eq!(bytes, [1, 4, 2, 5, 3, 6, 11, 14, 12, 15, 13, 16]);
    }
}
