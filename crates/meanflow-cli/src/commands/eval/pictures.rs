//! Pictures of any origin, as the bytes that features are made of.

use std::path::Path;

use anyhow::Context;
use meanflow_data::decode::Channels;
use meanflow_data::npy::NpyData;
use meanflow_data::npz::Npz;
use meanflow_data::picture::to_byte;
use meanflow_data::{BadPictures, Collection, Dataset, PictureSet, Source};
use meanflow_torch::Tensor;
use meanflow_train::TrainConfig;

use crate::failure::Usage;

/// Largest archive of pictures that is read into memory.
const MOST_BYTES: u64 = 16 << 30;

/// Pictures that are made features of at a time.
pub(super) const CHUNK: usize = 500;

/// Opens a recipe's data without augmentation, an archive of samples, or encoded pictures with so many channels.
pub(super) fn open(path: &Path, channels: usize) -> anyhow::Result<Box<dyn Source>> {
    let end = path.extension().and_then(|end| end.to_str());
    Ok(match end {
        Some("toml") => {
            let config = TrainConfig::read(path, &[])?;
            config.data.plain().load(config.seed)?
        }
        Some("npz") => Box::new(archive(path)?),
        Some("zip") => Box::new(collection(Collection::open_zip(path)?, channels)?),
        Some("tar") => Box::new(collection(Collection::open_tar(path)?, channels)?),
        _ => Box::new(collection(Collection::open_folder(path)?, channels)?),
    })
}

/// `arr_0`, pictures `[N, H, W, C]` of bytes, and `arr_1`, their labels, if they are there.
fn archive(path: &Path) -> anyhow::Result<Dataset> {
    let mut file = Npz::open(path, MOST_BYTES)?;
    let refuse = |got: String| {
        let shown = path.display();
        Usage(format!(
            "{shown}: expected arr_0, uint8 pictures [N, H, W, 1 or 3], got {got}"
        ))
    };
    let array = file.read("arr_0")?;
    let (NpyData::U8(bytes), &[count, height, width, channels]) = (array.data, &array.shape[..])
    else {
        return Err(refuse(format!("another kind of array, {:?}", array.shape)).into());
    };
    if !matches!(channels, 1 | 3) {
        return Err(refuse(format!("{channels} channels")).into());
    }
    let labels = match file.names().iter().any(|name| name == "arr_1") {
        true => match file.read("arr_1")?.data {
            NpyData::I64(labels) => labels,
            _ => Vec::new(),
        },
        false => Vec::new(),
    };
    let classes = labels
        .iter()
        .max()
        .map_or(0, |&label| label.max(0) as usize + 1);
    let mut planes = Vec::with_capacity(bytes.len());
    for picture in bytes.chunks(height * width * channels) {
        for channel in 0..channels {
            planes.extend(picture.iter().skip(channel).step_by(channels));
        }
    }
    let shape = [channels, height, width];
    Dataset::from_pictures(planes, shape, labels, classes)
        .with_context(|| format!("{}: {count} pictures", path.display()))
}

/// Encoded pictures, which must be squares of one size: nothing is resized that a figure is said of.
fn collection(pictures: Collection, channels: usize) -> anyhow::Result<PictureSet> {
    let channels = if channels == 1 {
        Channels::Grey
    } else {
        Channels::Color
    };
    let [height, width, _] = pictures.decode(0, channels)?.shape();
    if height != width {
        let path = pictures.path(0);
        let shown = path.display();
        return Err(Usage(format!("{shown}: expected a square, got {height}×{width}")).into());
    }
    Ok(PictureSet::new(
        pictures,
        height,
        channels,
        BadPictures::Refuse,
    )?)
}

/// Samples `start..end` as bytes, `[B, C, H, W]`.
pub(super) fn bytes_of(source: &dyn Source, start: usize, end: usize) -> anyhow::Result<Tensor> {
    let indices: Vec<usize> = (start..end).collect();
    Ok(bytes(&source.draw(&indices, 0, 0)?.values, source.shape()))
}

/// Values of model space as bytes `[B, C, H, W]`.
pub(super) fn bytes(values: &[f32], shape: &[usize]) -> Tensor {
    let bytes: Vec<u8> = values.iter().map(|&value| to_byte(value)).collect();
    let sides = shape.iter().map(|&side| side as i64);
    let size: Vec<i64> = std::iter::once(-1).chain(sides).collect();
    Tensor::from_slice(&bytes).reshape(size)
}
