//! PNG and JPEG files into pictures, with limits that hold before anything is decoded.
//!
//! The format is seen from the first bytes, not from the name. Eight bits a channel come out: of sixteen the upper
//! eight are kept, palettes and fewer bits are expanded, as Pillow's `convert("RGB")` does. Transparent pixels are laid
//! over a background, before anything else is done to the picture; without one they are an error. An orientation in the
//! metadata is applied where that is asked for.

use std::io::Cursor;
use std::path::Path;

use image::codecs::png::PngDecoder;
use image::metadata::Orientation;
use image::{DynamicImage, GrayImage, ImageDecoder, Limits, RgbImage};
use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

use crate::{DataError, Picture};

mod alpha;
mod format;
mod header;
mod jpeg;
mod png;
mod view;

use header::Header;
pub use view::{Background, Reading, View};

/// Start of a JPEG file, and of the marker that follows.
const JPEG: &[u8; 2] = b"\xff\xd8";

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

/// What a file says about its picture before it is decoded.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PictureInfo {
    /// Rows, as they are stored.
    pub height: usize,
    /// Columns, as they are stored.
    pub width: usize,
    /// Whether pixels can be transparent.
    pub has_alpha: bool,
    /// Whether a sample has more than eight bits, of which the upper eight are kept.
    pub is_sixteen_bit: bool,
    /// Whether the colours are those of a printer.
    pub is_cmyk: bool,
    /// Whether the metadata want the picture turned or mirrored.
    pub is_turned: bool,
}

/// Decodes a PNG file (of an animated one the first frame) or a JPEG file (of several pictures the first), as
/// [`Channels`] or a whole [`Reading`] say; `file` is its name in messages.
///
/// A JPEG file is read as libjpeg reads it: stray bytes between its segments are skipped. It has no check sums: damage to its
/// pixels that is still a picture is not seen.
///
/// # Errors
/// [`DataError::Field`] for another format, which is named; [`DataError::Limit`] above [`MAX_SIDE`], [`MAX_PIXELS`],
/// [`MAX_BYTES`] or [`MAX_FILE`], before anything is decoded; [`DataError::Transparent`] for transparent pixels without a
/// background; [`DataError::Decode`] for a damaged file, one that is cut short included.
pub fn decode(
    file: &Path,
    bytes: &[u8],
    reading: impl Into<Reading>,
) -> Result<Picture, DataError> {
    let Reading { channels, view } = reading.into();
    within(file, "file size in bytes", MAX_FILE, bytes.len() as u128)?;
    let header = header(file, bytes)?;
    check(file, &header)?;
    let pixels = if header.is_png {
        decode_png(file, bytes, view.background)?
    } else {
        decode_jpeg(file, bytes)?
    };
    let (mut height, mut width) = (header.height, header.width);
    let damaged = || DataError::Decode {
        file: file.to_owned(),
        reason: format!(
            "the pixels are not the {}×{} of the header",
            header.width, header.height
        ),
    };
    let pixels = if view.apply_orientation && header.orientation != Orientation::NoTransforms {
        let mut picture = pixels.into_image(width, height).ok_or_else(damaged)?;
        picture.apply_orientation(header.orientation);
        (height, width) = (picture.height(), picture.width());
        Pixels::of(picture)
    } else {
        pixels
    };
    let shape = [height as usize, width as usize, channels.count()];
    Picture::new(shape, pixels.into_channels(channels)).map_err(|_| damaged())
}

/// `[height, width]` as the header says, which is all that is read.
///
/// # Errors
/// As [`decode`], as far as the header shows it.
pub fn dimensions(file: &Path, bytes: &[u8]) -> Result<[usize; 2], DataError> {
    info(file, bytes).map(|info| [info.height, info.width])
}

/// What the header says, which is all that is read.
///
/// # Errors
/// As [`decode`], as far as the header shows it.
pub fn info(file: &Path, bytes: &[u8]) -> Result<PictureInfo, DataError> {
    let header = header(file, bytes)?;
    check(file, &header)?;
    Ok(PictureInfo {
        height: header.height as usize,
        width: header.width as usize,
        has_alpha: header.has_alpha,
        is_sixteen_bit: header.is_sixteen_bit,
        is_cmyk: header.is_cmyk,
        is_turned: header.orientation != Orientation::NoTransforms,
    })
}

/// What the first bytes of a PNG or JPEG file promise, read without a decoder; neither side is 0.
fn header(file: &Path, bytes: &[u8]) -> Result<Header, DataError> {
    let header = if bytes.starts_with(png::MAGIC) {
        png::header(file, bytes)?
    } else if bytes.starts_with(JPEG) {
        jpeg::header(file, bytes)?
    } else {
        let (expected, got) = ("PNG or JPEG", format::name_of(bytes));
        return Err(DataError::field(file, 0, "format", expected, got));
    };
    let header = header.ok_or_else(|| DataError::Decode {
        file: file.to_owned(),
        reason: "the file ends before the size of the picture".to_owned(),
    })?;
    if header.width == 0 || header.height == 0 {
        let got = format!("{}×{}", header.width, header.height);
        let expected = "at least 1×1";
        return Err(DataError::field(file, 0, "picture size", expected, got));
    }
    Ok(header)
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
    /// For turning; none if there are more or fewer pixels.
    fn into_image(self, width: u32, height: u32) -> Option<DynamicImage> {
        match self {
            Self::Grey(grey) => GrayImage::from_raw(width, height, grey).map(DynamicImage::from),
            Self::Rgb(rgb) => RgbImage::from_raw(width, height, rgb).map(DynamicImage::from),
        }
    }

    /// The pixels of what [`Pixels::into_image`] made.
    fn of(picture: DynamicImage) -> Self {
        match picture {
            DynamicImage::ImageLuma8(grey) => Self::Grey(grey.into_raw()),
            other => Self::Rgb(other.into_rgb8().into_raw()),
        }
    }

    fn into_channels(self, channels: Channels) -> Vec<u8> {
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

fn decode_png(
    file: &Path,
    bytes: &[u8],
    background: Option<Background>,
) -> Result<Pixels, DataError> {
    let decoded = || {
        let mut limits = Limits::no_limits();
        limits.max_alloc = Some(MAX_BYTES);
        let clean = png::clean(bytes);
        let mut decoder = PngDecoder::with_limits(Cursor::new(&clean), limits.clone())?;
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
        DynamicImage::ImageRgb8(rgb) => Pixels::Rgb(rgb.into_raw()),
        DynamicImage::ImageLuma16(grey) => Pixels::Grey(upper(grey.into_raw())),
        DynamicImage::ImageRgb16(rgb) => Pixels::Rgb(upper(rgb.into_raw())),
        DynamicImage::ImageLumaA8(pixels) => alpha::grey(file, &pixels, background)?,
        DynamicImage::ImageRgba8(pixels) => alpha::color(file, &pixels, background)?,
        DynamicImage::ImageLumaA16(pixels) => alpha::grey(file, &pixels, background)?,
        DynamicImage::ImageRgba16(pixels) => alpha::color(file, &pixels, background)?,
        other => {
            return Err(DataError::Decode {
                file: file.to_owned(),
                reason: format!("unexpected pixels of type {:?}", other.color()),
            });
        }
    })
}

fn decode_jpeg(file: &Path, bytes: &[u8]) -> Result<Pixels, DataError> {
    let refused = |reason: String| DataError::Decode {
        file: file.to_owned(),
        reason,
    };
    let clean = jpeg::clean(file, bytes)?;
    let options = DecoderOptions::default()
        .set_strict_mode(true)
        .set_max_width(MAX_SIDE as usize)
        .set_max_height(MAX_SIDE as usize)
        .jpeg_set_max_scans(MAX_SCANS);
    let mut decoder = JpegDecoder::new_with_options(Cursor::new(&clean[..]), options);
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
