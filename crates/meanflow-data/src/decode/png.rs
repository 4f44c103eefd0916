//! PNG files chunk by chunk: what the header promises, and the file without the chunks that a picture does not need.
//!
//! Colour profiles and texts are deflated, and could be bombs: they are never inflated, since nothing here uses them.

use std::path::Path;

use image::metadata::Orientation;

use super::{Header, PictureInfo};
use crate::DataError;

/// How every PNG file begins.
pub(super) const MAGIC: &[u8; 8] = b"\x89PNG\r\n\x1a\n";
/// Chunks that pixels are made of.
const NEEDED: [&[u8; 4]; 5] = [b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"];
/// Bytes of a chunk besides its contents: length, name and check sum.
const FRAME: usize = 12;

/// The name and contents of a chunk, and where the next one begins.
fn next(bytes: &[u8], at: usize) -> Option<(&[u8; 4], &[u8], usize)> {
    let rest = bytes.get(at..)?;
    let length = u32::from_be_bytes(*rest.first_chunk()?) as usize;
    let name = rest.get(4..8)?.first_chunk()?;
    let contents = rest.get(8..length.checked_add(8)?)?;
    let end = at.checked_add(length)?.checked_add(FRAME)?;
    (end <= bytes.len()).then_some((name, contents, end))
}

/// The chunks one after the other, up to what is none.
fn chunks(bytes: &[u8]) -> impl Iterator<Item = (&[u8; 4], &[u8], usize)> {
    let mut at = MAGIC.len();
    std::iter::from_fn(move || {
        let chunk = next(bytes, at)?;
        at = chunk.2;
        Some(chunk)
    })
}

/// What the chunks up to the pixels say; none where the file ends before the size.
pub(super) fn header(file: &Path, bytes: &[u8]) -> Result<Option<Header>, DataError> {
    if bytes.get(12..16) == Some(b"CgBI") {
        let reason = "Apple's variant of PNG for iPhones (CgBI before IHDR) is not read";
        return Err(DataError::decode(file, reason));
    }
    let (Some(&bits), Some(&kind)) = (bytes.get(24), bytes.get(25)) else {
        return Ok(None);
    };
    let word = |at: usize| {
        let word = bytes[at..].first_chunk();
        word.map_or(0, |word| u32::from_be_bytes(*word)) as usize
    };
    let samples = match kind {
        0 => 1,
        // A palette becomes colours, and may become transparent.
        4 => 2,
        2 => 3,
        _ => 4,
    };
    let (is_transparent, orientation) = before_pixels(file, bytes)?;
    // With a colour that stands for transparency one more sample is decoded.
    let more = u64::from(is_transparent && matches!(kind, 0 | 2));
    let info = PictureInfo {
        height: word(20),
        width: word(16),
        has_alpha: matches!(kind, 4 | 6) || is_transparent,
        is_sixteen_bit: bits > 8,
        is_cmyk: false,
        is_turned: orientation != Orientation::NoTransforms,
    };
    Ok(Some(Header {
        info,
        bytes_a_pixel: (samples + more) * if bits > 8 { 2 } else { 1 },
        orientation,
    }))
}

/// Whether there is a chunk of transparency before the pixels, and what Exif says of the orientation. A palette that is no list of
/// colours is refused: the decoder panics at some of them.
fn before_pixels(file: &Path, bytes: &[u8]) -> Result<(bool, Orientation), DataError> {
    let (mut transparent, mut orientation) = (false, Orientation::NoTransforms);
    for (name, contents, _) in chunks(bytes).take_while(|(name, ..)| *name != b"IDAT") {
        let length = contents.len();
        match name {
            b"PLTE" if length % 3 != 0 || !(3..=3 * 256).contains(&length) => {
                let reason =
                    format!("PLTE: expected 1 to 256 colours of 3 bytes, got {length} bytes");
                return Err(DataError::decode(file, reason));
            }
            b"tRNS" => transparent = true,
            b"eXIf" => orientation = Orientation::from_exif_chunk(contents).unwrap_or(orientation),
            _ => {}
        }
    }
    Ok((transparent, orientation))
}

/// The file without the chunks that pixels do not need; of one that is damaged all that follows the damage stays.
pub(super) fn clean(bytes: &[u8]) -> Vec<u8> {
    let needed = |name: &[u8; 4]| NEEDED.contains(&name) || name[0].is_ascii_uppercase();
    let (mut clean, mut at) = (MAGIC.to_vec(), MAGIC.len());
    for (name, _, end) in chunks(bytes) {
        if needed(name) {
            clean.extend_from_slice(&bytes[at..end]);
        }
        at = end;
    }
    clean.extend_from_slice(&bytes[at..]);
    clean
}
