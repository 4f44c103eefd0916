//! Sets of pictures of any origin, all of one size.

use std::path::Path;

use anyhow::Context;
use meanflow_data::decode::{Channels, dimensions};
use meanflow_data::npy::NpyData;
use meanflow_data::npz::Npz;
use meanflow_data::{BadPictures, Dataset, ImageArchive, ImageDataset, Source};
use meanflow_train::TrainConfig;

use crate::failure::Usage;
use crate::progress::Count;

/// Largest archive of pictures that is read into memory.
const MOST_BYTES: u64 = 16 << 30;

/// A set of pictures with the names of its classes, where there are some.
pub(super) struct PictureData {
    pub(super) source: Box<dyn Source>,
    pub(super) class_names: Option<Vec<String>>,
}

/// Opens a recipe's data without augmentation, an archive of samples, or encoded pictures. Without a number of channels, encoded
/// pictures have one where the first of them is grey.
pub(super) fn open(path: &Path, channels: Option<usize>) -> anyhow::Result<PictureData> {
    let end = path.extension().and_then(|end| end.to_str());
    let end = end.map(str::to_ascii_lowercase);
    let source: Box<dyn Source> = match end.as_deref() {
        Some("toml") => {
            let config = TrainConfig::read(path, &[])?;
            config.data.plain().load(config.seed)?
        }
        Some("npz") => Box::new(archive(path)?),
        _ => return encoded(ImageArchive::open(path)?, channels),
    };
    Ok(PictureData {
        source,
        class_names: None,
    })
}

/// `arr_0`, pictures `[N, H, W, C]` of bytes, and `arr_1`, their labels, if they are there.
fn archive(path: &Path) -> anyhow::Result<Dataset> {
    let mut file = Npz::open(path, MOST_BYTES)?;
    let shown = path.display();
    let refuse = |text: String| Usage(format!("{shown}: {text}"));
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
        true => match file.read("arr_1")?.data {
            NpyData::I64(labels) => labels,
            NpyData::U8(labels) => labels.into_iter().map(i64::from).collect(),
            _ => {
                let text = "expected arr_1, the labels, as integers, got floating-point numbers";
                return Err(refuse(text.to_owned()).into());
            }
        },
        false => Vec::new(),
    };
    let largest = labels.iter().max();
    let classes = largest.map_or(0, |&label| label.max(0) as usize + 1);
    to_planes(&mut bytes, height * width, channels);
    let shape = [channels, height, width];
    Dataset::from_pictures(bytes, shape, labels, classes)
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
    let class_names = pictures.class_names().map(<[String]>::to_vec);
    let source = ImageDataset::new(pictures, side, channels, BadPictures::Refuse)?;
    Ok(PictureData {
        source: Box::new(source),
        class_names,
    })
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
