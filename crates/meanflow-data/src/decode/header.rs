//! What the first bytes of a picture file promise, read without a decoder.

use std::path::Path;

use image::metadata::Orientation;

use super::{format, jpeg, png};
use crate::DataError;

/// Start of a JPEG file, and of the marker that follows.
const JPEG: &[u8; 2] = b"\xff\xd8";

/// What a file says about itself.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Header {
    pub(super) is_png: bool,
    pub(super) width: u32,
    pub(super) height: u32,
    /// What a decoder needs at least, in bytes a pixel.
    pub(super) bytes_a_pixel: u32,
    /// Whether pixels can be transparent: a channel for it, or a colour or places of a palette that stand for it.
    pub(super) has_alpha: bool,
    pub(super) is_sixteen_bit: bool,
    pub(super) is_cmyk: bool,
    /// How the metadata wants the picture turned.
    pub(super) orientation: Orientation,
}

impl Header {
    /// Reads the header of a PNG or JPEG file; neither side is 0.
    pub(super) fn read(file: &Path, bytes: &[u8]) -> Result<Self, DataError> {
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
}
