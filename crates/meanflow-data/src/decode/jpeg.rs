//! JPEG files marker by marker: what the header promises, and the file without the bytes that decoders skip.
//!
//! Cameras and editors leave stray bytes between segments and pictures behind the first. libjpeg looks for the next
//! marker wherever one is due and stops at the end of the first picture; so does this.

use std::path::Path;

use image::metadata::Orientation;

use super::{Header, PictureInfo};
use crate::DataError;

/// Start of a picture.
const SOI: u8 = 0xd8;
/// End of a picture.
const EOI: u8 = 0xd9;
/// Start of a scan, whose coded pixels follow its segment.
const SOS: u8 = 0xda;
/// The number of lines, after the pixels.
const DNL: u8 = 0xdc;
/// Where cameras put Exif.
const APP1: u8 = 0xe1;

/// One marker, and the bytes of its segment without the length, if it has any.
struct Segment<'a> {
    marker: u8,
    body: &'a [u8],
    /// The first byte behind.
    end: usize,
}

/// The next marker at or behind a place, wherever it stands, and what belongs to it; none at the end of the file.
fn next(bytes: &[u8], mut at: usize) -> Option<Segment<'_>> {
    let marker = loop {
        at += bytes.get(at..)?.iter().position(|&byte| byte == 0xff)?;
        // Any number of fill bytes may stand before a marker, and a zero makes it none.
        while *bytes.get(at)? == 0xff {
            at += 1;
        }
        at += 1;
        if bytes[at - 1] != 0 {
            break bytes[at - 1];
        }
    };
    let (mut body, mut end) = (&[][..], at);
    // Markers without a segment: TEM, restarts, start and end.
    if !matches!(marker, 0x01 | 0xd0..=0xd9) {
        end += usize::from(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?));
        body = bytes.get(at + 2..end)?;
    }
    Some(Segment { marker, body, end })
}

/// Whether a marker begins a frame, whose segment holds the size.
fn is_frame(marker: u8) -> bool {
    (0xc0..=0xcf).contains(&marker) && ![0xc4, 0xc8, 0xcc].contains(&marker)
}

/// What the segments up to the frame say; none where the file ends before.
pub(super) fn header(file: &Path, bytes: &[u8]) -> Result<Option<Header>, DataError> {
    let (mut at, mut orientation) = (2, Orientation::NoTransforms);
    while let Some(Segment { marker, body, end }) = next(bytes, at) {
        if let Some(exif) = body.strip_prefix(b"Exif\0\0").filter(|_| marker == APP1) {
            orientation = Orientation::from_exif_chunk(exif).unwrap_or(orientation);
        }
        if is_frame(marker) {
            return frame(file, marker, body, orientation);
        }
        if matches!(marker, EOI | SOS) {
            break;
        }
        at = end;
    }
    Ok(None)
}

/// What the segment of a frame says; none where it is too short.
fn frame(
    file: &Path,
    marker: u8,
    body: &[u8],
    orientation: Orientation,
) -> Result<Option<Header>, DataError> {
    let Some((&[bits, h0, h1, w0, w1, components], _)) = body.split_first_chunk() else {
        return Ok(None);
    };
    let [height, width] = [[h0, h1], [w0, w1]].map(u16::from_be_bytes);
    if let Some(reason) = unreadable(marker, bits, height) {
        return Err(DataError::decode(file, reason));
    }
    let channels = u64::from(components.min(4));
    // A progressive file keeps all its coefficients, of two bytes, until the last scan.
    let kept = if marker == 0xc2 { 2 * channels } else { 0 };
    let info = PictureInfo {
        height: height.into(),
        width: width.into(),
        has_alpha: false,
        is_sixteen_bit: false,
        is_cmyk: components == 4,
        is_turned: orientation != Orientation::NoTransforms,
    };
    Ok(Some(Header {
        info,
        bytes_a_pixel: kept + if channels == 1 { 1 } else { 3 },
        orientation,
    }))
}

/// Why a frame of this kind is not read.
fn unreadable(marker: u8, bits: u8, height: u16) -> Option<String> {
    let text = match marker {
        0xc9..=0xcf => "JPEG with arithmetic coding is not read",
        0xc3 | 0xc5..=0xc7 => "lossless and hierarchical JPEG are not read",
        _ if bits != 8 => {
            return Some(format!(
                "JPEG of {bits} bits a sample is not read, of 8 it is"
            ));
        }
        _ if height == 0 => {
            "a height of 0 in the frame: JPEG that says its height after the pixels (DNL) is not read"
        }
        _ => return None,
    };
    Some(text.to_owned())
}

/// The first picture in a file from marker to marker, without stray bytes, metadata and whatever follows.
///
/// # Errors
/// [`DataError::Decode`] where the file ends before its picture does.
pub(super) fn clean(file: &Path, bytes: &[u8]) -> Result<Vec<u8>, DataError> {
    let mut clean = Vec::with_capacity(bytes.len());
    clean.extend([0xff, SOI]);
    let mut at = 2;
    while let Some(Segment { marker, body, end }) = next(bytes, at) {
        at = end;
        // Of what applications and comments say only JFIF's and Adobe's segments (0 and 14) tell of the pixels.
        if matches!(marker, DNL | APP1..=0xed | 0xef | 0xfe | 0x01 | 0xd0..=0xd7) {
            continue;
        }
        clean.extend([0xff, marker]);
        if marker == EOI {
            return Ok(clean);
        }
        if marker == SOI {
            continue;
        }
        clean.extend((body.len() as u16 + 2).to_be_bytes());
        clean.extend_from_slice(body);
        if marker == SOS {
            let coded = coded(&bytes[end..]);
            clean.extend_from_slice(&bytes[end..end + coded]);
            at += coded;
        }
    }
    let reason = "the file ends before the picture does (no end marker)";
    Err(DataError::decode(file, reason))
}

/// How many bytes of coded pixels there are before the next marker that ends them.
fn coded(bytes: &[u8]) -> usize {
    let mut at = 0;
    while let Some(found) = bytes[at..].iter().position(|&byte| byte == 0xff) {
        at += found;
        match bytes.get(at + 1) {
            // A stuffed zero, or a restart.
            Some(0 | 0xd0..=0xd7) => at += 2,
            Some(0xff) => at += 1,
            Some(_) => return at,
            None => break,
        }
    }
    bytes.len()
}
