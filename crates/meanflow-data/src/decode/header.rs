//! What the first bytes of a picture file promise, read without a decoder.

use std::path::Path;

use crate::DataError;

const PNG: &[u8; 8] = b"\x89PNG\r\n\x1a\n";
/// Start of a JPEG file, and of the marker that follows.
const JPEG: &[u8; 3] = b"\xff\xd8\xff";

/// What a file says about itself.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Header {
    pub(super) is_png: bool,
    pub(super) width: u32,
    pub(super) height: u32,
    /// What a decoder needs at least, in bytes a pixel.
    pub(super) bytes_a_pixel: u32,
}

impl Header {
    /// Reads the header of a PNG or JPEG file; neither side is 0.
    pub(super) fn read(file: &Path, bytes: &[u8]) -> Result<Self, DataError> {
        let header = if bytes.starts_with(PNG) {
            png(bytes)
        } else if bytes.starts_with(JPEG) {
            jpeg(bytes)
        } else {
            let start = &bytes[..bytes.len().min(8)];
            let (expected, got) = ("that of PNG or JPEG", start.escape_ascii());
            return Err(DataError::field(file, 0, "magic number", expected, got));
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

/// IHDR is the first chunk: length and name, width, height, bits and kind of colour.
fn png(bytes: &[u8]) -> Option<Header> {
    let word = |at: usize| {
        bytes
            .get(at..)?
            .first_chunk()
            .map(|w| u32::from_be_bytes(*w))
    };
    let samples = match bytes.get(25)? {
        0 => 1,
        // A palette becomes colours, and may become transparent.
        4 => 2,
        2 => 3,
        _ => 4,
    };
    let width_of_sample = if *bytes.get(24)? > 8 { 2 } else { 1 };
    Some(Header {
        is_png: true,
        width: word(16)?,
        height: word(20)?,
        bytes_a_pixel: samples * width_of_sample,
    })
}

/// Goes from marker to marker until that of the frame, which holds the size.
fn jpeg(bytes: &[u8]) -> Option<Header> {
    let mut at = 2;
    loop {
        // Any number of fill bytes may stand before a marker.
        while *bytes.get(at)? == 0xff && *bytes.get(at + 1)? == 0xff {
            at += 1;
        }
        let [start, marker, high, low] = *bytes.get(at..)?.first_chunk()?;
        if start != 0xff {
            return None;
        }
        let is_frame = (0xc0..=0xcf).contains(&marker) && ![0xc4, 0xc8, 0xcc].contains(&marker);
        if is_frame {
            let [height_high, height_low, width_high, width_low, components] =
                *bytes.get(at + 5..)?.first_chunk()?;
            let components = u32::from(components.min(4));
            // A progressive file keeps all its coefficients, of two bytes, until the last scan.
            let kept = if marker == 0xc2 { 2 * components } else { 0 };
            return Some(Header {
                is_png: false,
                width: u16::from_be_bytes([width_high, width_low]).into(),
                height: u16::from_be_bytes([height_high, height_low]).into(),
                bytes_a_pixel: kept + if components == 1 { 1 } else { 3 },
            });
        }
        at += 2 + usize::from(u16::from_be_bytes([high, low]));
    }
}
