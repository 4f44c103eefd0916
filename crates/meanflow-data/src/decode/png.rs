//! PNG files chunk by chunk: what the header promises, and the file without the chunks that a picture does not need.
//!
//! Colour profiles and texts are deflated, and could be bombs: they are never inflated, since nothing here uses them.

use std::borrow::Cow;
use std::path::Path;

use image::metadata::Orientation;

use super::header::Header;
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

/// What the chunks up to the pixels say; none where the file ends before the size.
pub(super) fn header(file: &Path, bytes: &[u8]) -> Result<Option<Header>, DataError> {
    if bytes.get(12..16) == Some(b"CgBI") {
        return Err(DataError::Decode {
            file: file.to_owned(),
            reason: "Apple's variant of PNG for iPhones (CgBI before IHDR) is not read".to_owned(),
        });
    }
    let (Some(&bits), Some(&kind)) = (bytes.get(24), bytes.get(25)) else {
        return Ok(None);
    };
    let word = |at: usize| {
        bytes[at..]
            .first_chunk()
            .map_or(0, |w| u32::from_be_bytes(*w))
    };
    let samples = match kind {
        0 => 1,
        // A palette becomes colours, and may become transparent.
        4 => 2,
        2 => 3,
        _ => 4,
    };
    refuse_palette(file, bytes)?;
    let (is_transparent, orientation) = before_pixels(bytes);
    // With a colour that stands for transparency one more sample is decoded.
    let more = u32::from(is_transparent && matches!(kind, 0 | 2));
    Ok(Some(Header {
        is_png: true,
        width: word(16),
        height: word(20),
        bytes_a_pixel: (samples + more) * if bits > 8 { 2 } else { 1 },
        has_alpha: matches!(kind, 4 | 6) || is_transparent,
        is_sixteen_bit: bits > 8,
        is_cmyk: false,
        orientation,
    }))
}

/// Refuses a palette that is no list of colours: the decoder panics at some of them.
fn refuse_palette(file: &Path, bytes: &[u8]) -> Result<(), DataError> {
    let mut at = MAGIC.len();
    while let Some((name, contents, end)) = next(bytes, at) {
        let length = contents.len();
        match name {
            b"IDAT" => break,
            b"PLTE" if length % 3 != 0 || !(3..=3 * 256).contains(&length) => {
                let file = file.to_owned();
                let reason =
                    format!("PLTE: expected 1 to 256 colours of 3 bytes, got {length} bytes");
                return Err(DataError::Decode { file, reason });
            }
            _ => at = end,
        }
    }
    Ok(())
}

/// Whether there is a chunk of transparency before the pixels, and what Exif says of the orientation.
fn before_pixels(bytes: &[u8]) -> (bool, Orientation) {
    let (mut at, mut transparent, mut orientation) =
        (MAGIC.len(), false, Orientation::NoTransforms);
    while let Some((name, contents, end)) = next(bytes, at) {
        match name {
            b"IDAT" => break,
            b"tRNS" => transparent = true,
            b"eXIf" => orientation = Orientation::from_exif_chunk(contents).unwrap_or(orientation),
            _ => {}
        }
        at = end;
    }
    (transparent, orientation)
}

/// The file without the chunks that pixels do not need; of one that is damaged all that follows the damage stays.
pub(super) fn clean(bytes: &[u8]) -> Cow<'_, [u8]> {
    let needed = |name: &[u8; 4]| NEEDED.contains(&name) || name[0].is_ascii_uppercase();
    let mut at = MAGIC.len();
    let mut clean: Option<Vec<u8>> = None;
    while let Some((name, _, end)) = next(bytes, at) {
        match &mut clean {
            None if !needed(name) => clean = Some(bytes[..at].to_vec()),
            Some(clean) if needed(name) => clean.extend_from_slice(&bytes[at..end]),
            _ => {}
        }
        at = end;
    }
    match clean {
        None => Cow::Borrowed(bytes),
        Some(mut clean) => {
            clean.extend_from_slice(&bytes[at..]);
            Cow::Owned(clean)
        }
    }
}
