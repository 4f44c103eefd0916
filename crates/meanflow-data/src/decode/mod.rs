//! PNG and JPEG files into pictures, with limits that hold before anything is decoded.
//!
//! The format is seen from the first bytes, not from the name. Eight bits a channel come out: of sixteen the upper
//! eight are kept, palettes and fewer bits are expanded, transparency is dropped, as Pillow's `convert("RGB")` does.
//! An orientation in the metadata is not applied, as torchvision does not.

use std::io::Cursor;
use std::path::Path;

use image::codecs::png::PngDecoder;
use image::{DynamicImage, ImageDecoder, Limits};
use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

use crate::{DataError, Picture};

mod header;

use header::Header;

/// Longest side that is decoded.
pub const MAX_SIDE: u32 = 16_384;
/// Most pixels that are decoded.
pub const MAX_PIXELS: u64 = 64_000_000;
/// Most bytes that decoding one picture may take.
pub const MAX_BYTES: u64 = 256 << 20;
/// Longest file that is read.
pub const MAX_FILE: u64 = 64 << 20;
/// Most scans of a progressive JPEG file: each goes over the whole picture, however short it is.
const MAX_SCANS: usize = 100;

/// Channels of decoded pictures.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Channels {
    /// One; of colours the luma of ITU-R BT.601, rounded as Pillow rounds.
    Grey,
    /// Three; grey three times.
    Color,
}

impl Channels {
    /// 1 or 3.
    pub fn count(self) -> usize {
        match self {
            Self::Grey => 1,
            Self::Color => 3,
        }
    }
}

/// Decodes a PNG file (of an animated one the first frame) or a JPEG file; `file` is its name in messages.
///
/// A JPEG file has no check sums: damage to its pixels that is still a picture is not seen.
///
/// # Errors
/// [`DataError::Field`] for another format; [`DataError::Limit`] above [`MAX_SIDE`], [`MAX_PIXELS`], [`MAX_BYTES`] or
/// [`MAX_FILE`], before anything is decoded; [`DataError::Decode`] for a damaged file, one that is cut short included.
pub fn decode(file: &Path, bytes: &[u8], channels: Channels) -> Result<Picture, DataError> {
    within(file, "file size in bytes", MAX_FILE, bytes.len() as u128)?;
    let header = Header::read(file, bytes)?;
    check(file, &header)?;
    let color = if header.is_png {
        decode_png(file, bytes)?
    } else {
        decode_jpeg(file, bytes)?
    };
    let color = color.into_rgb(channels);
    let [height, width] = [header.height, header.width].map(|side| side as usize);
    Picture::new([height, width, channels.count()], color).map_err(|_| DataError::Decode {
        file: file.to_owned(),
        reason: format!("the pixels are not the {width}×{height} of the header"),
    })
}

/// `[height, width]` as the header says, which is all that is read.
///
/// # Errors
/// As [`decode`], as far as the header shows it.
pub fn dimensions(file: &Path, bytes: &[u8]) -> Result<[usize; 2], DataError> {
    let header = Header::read(file, bytes)?;
    check(file, &header)?;
    Ok([header.height, header.width].map(|side| side as usize))
}

/// Refuses what would take too much.
fn check(file: &Path, header: &Header) -> Result<(), DataError> {
    for side in [header.width, header.height] {
        within(file, "picture side", MAX_SIDE.into(), side.into())?;
    }
    let pixels = u64::from(header.width) * u64::from(header.height);
    within(file, "number of pixels", MAX_PIXELS, pixels.into())?;
    let bytes = u128::from(pixels) * u128::from(header.bytes_a_pixel);
    within(file, "decoded size in bytes", MAX_BYTES, bytes)
}

fn within(file: &Path, what: &'static str, limit: u64, got: u128) -> Result<(), DataError> {
    if got <= u128::from(limit) {
        return Ok(());
    }
    Err(DataError::Limit {
        file: file.to_owned(),
        what,
        limit,
        got,
    })
}

/// Pixels as a decoder left them.
enum Pixels {
    Grey(Vec<u8>),
    Rgb(Vec<u8>),
}

impl Pixels {
    fn into_rgb(self, channels: Channels) -> Vec<u8> {
        match (self, channels) {
            (Self::Grey(grey), Channels::Grey) => grey,
            (Self::Rgb(rgb), Channels::Color) => rgb,
            (Self::Grey(grey), Channels::Color) => grey.iter().flat_map(|&g| [g, g, g]).collect(),
            (Self::Rgb(rgb), Channels::Grey) => {
                rgb.as_chunks().0.iter().map(|&pixel| luma(pixel)).collect()
            }
        }
    }
}

/// 0.299 R + 0.587 G + 0.114 B in sixteenths of bits, rounded to the nearest.
fn luma([red, green, blue]: [u8; 3]) -> u8 {
    let [red, green, blue] = [red, green, blue].map(u32::from);
    ((red * 19_595 + green * 38_470 + blue * 7_471 + 0x8000) >> 16) as u8
}

fn decode_png(file: &Path, bytes: &[u8]) -> Result<Pixels, DataError> {
    let decoded = || {
        let mut limits = Limits::no_limits();
        limits.max_alloc = Some(MAX_BYTES);
        let mut decoder = PngDecoder::with_limits(Cursor::new(bytes), limits.clone())?;
        decoder.set_limits(limits)?;
        DynamicImage::from_decoder(decoder)
    };
    let picture = decoded().map_err(|error| DataError::Decode {
        file: file.to_owned(),
        reason: error.to_string(),
    })?;
    let upper = |words: Vec<u16>| words.iter().map(|word| (word >> 8) as u8).collect();
    Ok(match picture {
        DynamicImage::ImageLuma8(grey) => Pixels::Grey(grey.into_raw()),
        DynamicImage::ImageLumaA8(pixels) => Pixels::Grey(every::<2, 1, u8>(&pixels)),
        DynamicImage::ImageRgb8(rgb) => Pixels::Rgb(rgb.into_raw()),
        DynamicImage::ImageRgba8(pixels) => Pixels::Rgb(every::<4, 3, u8>(&pixels)),
        DynamicImage::ImageLuma16(grey) => Pixels::Grey(upper(grey.into_raw())),
        DynamicImage::ImageLumaA16(pixels) => Pixels::Grey(upper(every::<2, 1, u16>(&pixels))),
        DynamicImage::ImageRgb16(rgb) => Pixels::Rgb(upper(rgb.into_raw())),
        DynamicImage::ImageRgba16(pixels) => Pixels::Rgb(upper(every::<4, 3, u16>(&pixels))),
        other => {
            return Err(DataError::Decode {
                file: file.to_owned(),
                reason: format!("unexpected pixels of type {:?}", other.color()),
            });
        }
    })
}

/// The first `K` of every `N` values.
fn every<const N: usize, const K: usize, T: Copy>(values: &[T]) -> Vec<T> {
    let (pixels, _) = values.as_chunks::<N>();
    pixels
        .iter()
        .flat_map(|pixel| &pixel[..K])
        .copied()
        .collect()
}

fn decode_jpeg(file: &Path, bytes: &[u8]) -> Result<Pixels, DataError> {
    let refused = |reason: String| DataError::Decode {
        file: file.to_owned(),
        reason,
    };
    let options = DecoderOptions::default()
        .set_strict_mode(true)
        .set_max_width(MAX_SIDE as usize)
        .set_max_height(MAX_SIDE as usize)
        .jpeg_set_max_scans(MAX_SCANS);
    let mut decoder = JpegDecoder::new_with_options(Cursor::new(bytes), options);
    decoder
        .decode_headers()
        .map_err(|error| refused(error.to_string()))?;
    let grey = decoder.input_colorspace() == Some(ColorSpace::Luma);
    let wanted = if grey {
        ColorSpace::Luma
    } else {
        ColorSpace::RGB
    };
    decoder.set_options(options.jpeg_set_out_colorspace(wanted));
    let pixels = decoder
        .decode()
        .map_err(|error| refused(error.to_string()))?;
    Ok(if grey {
        Pixels::Grey(pixels)
    } else {
        Pixels::Rgb(pixels)
    })
}
