//! Pictures of bytes, and their way out of model space and onto the disk.
//!
//! Legend: `N` pictures, `C` channels (1 grey, 3 colour), `H` height, `W` width.

use std::fs;
use std::path::{Path, PathBuf};

use image::codecs::png::PngEncoder;
use image::{ExtendedColorType, ImageEncoder};

use crate::DataError;
use crate::atomic::{write_bytes, write_unsynced};

/// Pictures in one folder of [`Pictures::write_folders`].
pub const PICTURES_PER_FOLDER: u64 = 1000;

/// One picture.
#[derive(Clone, Debug, PartialEq)]
pub struct Picture {
    /// `[H, W, C]`.
    shape: [usize; 3],
    pixels: Vec<u8>,
}

/// A batch of pictures of one shape.
#[derive(Clone, Debug, PartialEq)]
pub struct Pictures {
    /// `[H, W, C]` of each.
    shape: [usize; 3],
    pixels: Vec<u8>,
}

/// The byte of a value of model space: −1 is 0, 1 is 255, between them the nearest (halves away from 0), outside
/// them the nearest end. NaN is 0.
pub fn to_byte(value: f32) -> u8 {
    // `as` saturates, and takes NaN to 0.
    ((value + 1.0) * 127.5).round() as u8
}

impl Pictures {
    /// Pictures out of a batch of a network or data set.
    ///
    /// # Shapes
    /// `values` is `[N, C, H, W]` with `shape = [C, H, W]`, C = 1 or 3.
    ///
    /// # Errors
    /// [`DataError::Shape`] for another number of channels, an empty side, or values that are no whole number of pictures.
    pub fn from_model(values: &[f32], shape: [usize; 3]) -> Result<Self, DataError> {
        let [channels, height, width] = shape;
        let shape = [height, width, channels];
        refuse_other_size(shape, values.len())?;
        let plane = height * width;
        let mut pixels = Vec::with_capacity(values.len());
        for picture in values.chunks_exact(plane * channels) {
            for place in 0..plane {
                let planes = picture.iter().skip(place).step_by(plane);
                pixels.extend(planes.map(|&value| to_byte(value)));
            }
        }
        Ok(Self { shape, pixels })
    }

    /// Pictures from their pixels, `[N, H, W, C]` row-major with `shape = [H, W, C]`.
    ///
    /// # Errors
    /// [`DataError::Shape`] when C is not 1 or 3, a side is 0, or the number of pixels does not fit.
    pub fn from_pixels(pixels: Vec<u8>, shape: [usize; 3]) -> Result<Self, DataError> {
        refuse_other_size(shape, pixels.len())?;
        Ok(Self { shape, pixels })
    }

    /// These pictures, then those of `other`.
    ///
    /// # Errors
    /// [`DataError::Shape`] when they have another size.
    pub fn append(&mut self, other: &Self) -> Result<(), DataError> {
        let ([_, size @ ..], [_, got @ ..]) = (self.shape(), other.shape());
        if size != got {
            let (expected, got) = (format!("{size:?}"), format!("{got:?}"));
            return DataError::misfit("pictures to append", expected, got);
        }
        self.pixels.extend_from_slice(&other.pixels);
        Ok(())
    }

    /// Number of pictures.
    pub fn len(&self) -> usize {
        self.pixels.len() / self.shape.iter().product::<usize>()
    }

    /// Whether there is no picture.
    pub fn is_empty(&self) -> bool {
        self.pixels.is_empty()
    }

    /// `[N, H, W, C]`.
    pub fn shape(&self) -> [usize; 4] {
        let [height, width, channels] = self.shape;
        [self.len(), height, width, channels]
    }

    /// All pixels, `[N, H, W, C]` row-major.
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }

    /// The pictures one by one.
    pub fn iter(&self) -> impl Iterator<Item = Picture> + '_ {
        let (shape, size) = (self.shape, self.shape.iter().product());
        self.pixels.chunks_exact(size).map(move |pixels| Picture {
            shape,
            pixels: pixels.to_vec(),
        })
    }

    /// Writes picture i to `folder/BBB000/NNNNNN.png`, where N is `numbers[i]` (a seed, say) and B000 is N rounded
    /// down to [`PICTURES_PER_FOLDER`]; both have six digits or more. Each file is whole or absent, but not synced
    /// (that would cost more than making the picture): a power cut can take back the last ones.
    ///
    /// # Errors
    /// [`DataError::Shape`] unless there is one number a picture; otherwise as [`Picture::write_png`].
    pub fn write_folders(&self, folder: &Path, numbers: &[u64]) -> Result<(), DataError> {
        if numbers.len() != self.len() {
            return DataError::misfit("numbers of pictures", self.len(), numbers.len());
        }
        for (picture, &number) in self.iter().zip(numbers) {
            let path = folder.join(numbered(number));
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent).map_err(DataError::io(parent))?;
            }
            write_unsynced(&path, &picture.png(&path)?)?;
        }
        Ok(())
    }
}

impl Picture {
    /// A picture from its pixels, `[H, W, C]` row-major.
    ///
    /// # Errors
    /// [`DataError::Shape`] when C is not 1 or 3, a side is 0, or the number of pixels does not fit.
    pub fn new(shape: [usize; 3], pixels: Vec<u8>) -> Result<Self, DataError> {
        check_sides(shape)?;
        let expected = shape.iter().product::<usize>();
        if pixels.len() != expected {
            return DataError::misfit("pixels", expected, pixels.len());
        }
        Ok(Self { shape, pixels })
    }

    /// `[H, W, C]`.
    pub fn shape(&self) -> [usize; 3] {
        self.shape
    }

    /// The pixels, `[H, W, C]` row-major.
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }

    /// Writes a PNG file of 8 bits a channel, grey or RGB, whole or not at all.
    ///
    /// # Errors
    /// [`DataError::Io`] or [`DataError::Encode`] with `path`.
    pub fn write_png(&self, path: &Path) -> Result<(), DataError> {
        write_bytes(path, &self.png(path)?)
    }

    /// The PNG file as bytes.
    ///
    /// # Errors
    /// [`DataError::Shape`] for a side that PNG cannot say.
    pub fn to_png(&self) -> Result<Vec<u8>, DataError> {
        self.png(Path::new("a picture"))
    }

    /// The PNG file as bytes; `path` is its name in messages.
    pub(crate) fn png(&self, path: &Path) -> Result<Vec<u8>, DataError> {
        let [height, width, channels] = self.shape;
        let color = match channels {
            1 => ExtendedColorType::L8,
            _ => ExtendedColorType::Rgb8,
        };
        let side = |side| {
            let long = |_| DataError::shape("side of a PNG picture", "below 2³²", side);
            u32::try_from(side).map_err(long)
        };
        let mut png = Vec::new();
        PngEncoder::new(&mut png)
            .write_image(&self.pixels, side(width)?, side(height)?, color)
            .map_err(|source| DataError::Encode {
                file: path.to_owned(),
                source,
            })?;
        Ok(png)
    }
}

/// The place of picture N below the folder that [`Pictures::write_folders`] writes: `001000/001234.png` for 1234.
pub fn numbered(number: u64) -> PathBuf {
    let folder = number - number % PICTURES_PER_FOLDER;
    PathBuf::from(format!("{folder:06}/{number:06}.png"))
}

/// Refuses so many values if they are no whole number of pictures of this shape.
fn refuse_other_size(shape: [usize; 3], values: usize) -> Result<(), DataError> {
    check_sides(shape)?;
    if values.is_multiple_of(shape.iter().product()) {
        return Ok(());
    }
    let expected = format!("whole pictures of height, width and channels {shape:?}");
    DataError::misfit("values", expected, values)
}

fn check_sides([height, width, channels]: [usize; 3]) -> Result<(), DataError> {
    if matches!(channels, 1 | 3) && height > 0 && width > 0 {
        return Ok(());
    }
    let (what, expected) = ("channels of a picture", "1 or 3, of at least 1×1");
    DataError::misfit(what, expected, format!("{channels} of {height}×{width}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory_dataset::from_byte;

    #[test]
    fn bytes_survive_model_space() {
        assert!((0..=255).all(|byte| to_byte(from_byte(byte)) == byte));
    }

    #[test]
    fn values_outside_the_range_go_to_the_nearest_end() {
        let cases = [
            (-1e30, 0),
            (-1.1, 0),
            (1.0001, 255),
            (f32::INFINITY, 255),
            (f32::NAN, 0),
        ];
        assert!(cases.iter().all(|&(value, byte)| to_byte(value) == byte));
        // The steps lie half-way between the values of two bytes.
        let step = from_byte(17) + 0.5 / 127.5;
        assert_eq!((to_byte(step - 1e-4), to_byte(step + 1e-4)), (17, 18));
    }

    #[test]
    fn thousand_pictures_share_a_folder() {
        let name = |number| numbered(number).display().to_string();
        assert_eq!(name(999), "000000/000999.png");
        assert_eq!(name(1000), "001000/001000.png");
        assert_eq!(name(12_345_678), "12345000/12345678.png");
    }
}
