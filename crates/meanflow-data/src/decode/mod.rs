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
mod jpeg;
mod png;
mod view;

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

/// What the first bytes of a file promise.
struct Header {
    info: PictureInfo,
    /// What a decoder needs at least, in bytes a pixel.
    bytes_a_pixel: u64,
    /// How the metadata wants the picture turned.
    orientation: Orientation,
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
    DataError::within(file, "file size in bytes", MAX_FILE, bytes.len() as u64)?;
    let Header {
        info, orientation, ..
    } = header(file, bytes)?;
    let (stored, pixels) = if bytes.starts_with(png::MAGIC) {
        decode_png(file, bytes, view.background)?
    } else {
        decode_jpeg(file, bytes)?
    };
    let PictureInfo { height, width, .. } = info;
    let damaged = || {
        let reason = format!("the pixels are not the {width}×{height} of the header");
        DataError::decode(file, reason)
    };
    let (wide, high) = (width as u32, height as u32);
    let picture = match stored {
        Channels::Grey => GrayImage::from_raw(wide, high, pixels).map(DynamicImage::from),
        Channels::Color => RgbImage::from_raw(wide, high, pixels).map(DynamicImage::from),
    };
    let mut picture = picture.ok_or_else(damaged)?;
    if view.apply_orientation {
        picture.apply_orientation(orientation);
    }
    let [height, width] = [picture.height(), picture.width()].map(|side| side as usize);
    let shape = [height, width, channels.count()];
    Picture::new(shape, in_channels(picture, channels)).map_err(|_| damaged())
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
    header(file, bytes).map(|header| header.info)
}

/// What the first bytes of a PNG or JPEG file promise, read without a decoder: no side of 0, and nothing that would take too much.
fn header(file: &Path, bytes: &[u8]) -> Result<Header, DataError> {
    let header = if bytes.starts_with(png::MAGIC) {
        png::header(file, bytes)?
    } else if bytes.starts_with(JPEG) {
        jpeg::header(file, bytes)?
    } else {
        let got = format::name_of(bytes);
        return DataError::refuse(file, 0, "format", "PNG or JPEG", got);
    };
    let short = || DataError::decode(file, "the file ends before the size of the picture");
    let header = header.ok_or_else(short)?;
    let [height, width] = [header.info.height, header.info.width].map(|side| side as u64);
    if width == 0 || height == 0 {
        let got = format!("{width}×{height}");
        return DataError::refuse(file, 0, "picture size", "at least 1×1", got);
    }
    for side in [width, height] {
        DataError::within(file, "picture side", MAX_SIDE.into(), side)?;
    }
    DataError::within(file, "number of pixels", MAX_PIXELS, width * height)?;
    let needed = width * height * header.bytes_a_pixel;
    DataError::within(file, "decoded size in bytes", MAX_BYTES, needed)?;
    Ok(header)
}

/// Pixels as a decoder left them, grey or RGB.
type Pixels = (Channels, Vec<u8>);

/// The pixels of a picture that is grey or RGB.
fn in_channels(picture: DynamicImage, channels: Channels) -> Vec<u8> {
    match (picture, channels) {
        (DynamicImage::ImageLuma8(grey), Channels::Grey) => grey.into_raw(),
        (DynamicImage::ImageLuma8(grey), Channels::Color) => {
            grey.iter().flat_map(|&g| [g, g, g]).collect()
        }
        (rgb, Channels::Color) => rgb.into_rgb8().into_raw(),
        (rgb, Channels::Grey) => {
            let (pixels, _) = rgb.as_bytes().as_chunks();
            pixels.iter().map(|&pixel| luma(pixel)).collect()
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
    let picture = decoded().map_err(|error| DataError::decode(file, error))?;
    let upper = |words: Vec<u16>| words.iter().map(|word| (word >> 8) as u8).collect();
    Ok(match picture {
        DynamicImage::ImageLuma8(grey) => (Channels::Grey, grey.into_raw()),
        DynamicImage::ImageRgb8(rgb) => (Channels::Color, rgb.into_raw()),
        DynamicImage::ImageLuma16(grey) => (Channels::Grey, upper(grey.into_raw())),
        DynamicImage::ImageRgb16(rgb) => (Channels::Color, upper(rgb.into_raw())),
        DynamicImage::ImageLumaA8(pixels) => alpha::grey(file, &pixels, background)?,
        DynamicImage::ImageRgba8(pixels) => alpha::color(file, &pixels, background)?,
        DynamicImage::ImageLumaA16(pixels) => alpha::grey(file, &pixels, background)?,
        DynamicImage::ImageRgba16(pixels) => alpha::color(file, &pixels, background)?,
        other => {
            let reason = format!("unexpected pixels of type {:?}", other.color());
            return Err(DataError::decode(file, reason));
        }
    })
}

fn decode_jpeg(file: &Path, bytes: &[u8]) -> Result<Pixels, DataError> {
    let clean = jpeg::clean(file, bytes)?;
    let options = DecoderOptions::default()
        .set_strict_mode(true)
        .set_max_width(MAX_SIDE as usize)
        .set_max_height(MAX_SIDE as usize)
        .jpeg_set_max_scans(MAX_SCANS);
    let mut decoder = JpegDecoder::new_with_options(Cursor::new(&clean[..]), options);
    let read = decoder.decode_headers();
    read.map_err(|error| DataError::decode(file, error))?;
    let (stored, wanted) = match decoder.input_colorspace() {
        Some(ColorSpace::Luma) => (Channels::Grey, ColorSpace::Luma),
        _ => (Channels::Color, ColorSpace::RGB),
    };
    decoder.set_options(options.jpeg_set_out_colorspace(wanted));
    let pixels = decoder.decode();
    let pixels = pixels.map_err(|error| DataError::decode(file, error))?;
    Ok((stored, pixels))
}
