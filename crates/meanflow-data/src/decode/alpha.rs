//! Transparent pixels over a background.

use std::path::Path;

use super::{Background, Channels, Pixels};
use crate::DataError;

/// A sample of eight or sixteen bits.
pub(super) trait Sample: Copy + Into<u64> {
    /// The largest value: opaque, or as bright as can be.
    const MAX: u64;
}

impl Sample for u8 {
    const MAX: u64 = 255;
}

impl Sample for u16 {
    const MAX: u64 = 65_535;
}

/// A sample over a part of the background, to the nearest number of its own bits, of which the upper eight are kept; as it is stored
/// where there is none.
fn over<S: Sample>(sample: S, alpha: S, background: Option<u8>) -> u8 {
    let (sample, alpha, max) = (sample.into(), alpha.into(), S::MAX);
    let mixed = match background {
        None => sample,
        // A byte fills any number of bits evenly: 255 becomes 65535.
        Some(byte) => {
            (sample * alpha + u64::from(byte) * (max / 255) * (max - alpha) + max / 2) / max
        }
    };
    (mixed / ((max + 1) / 256)) as u8
}

/// The colour behind the pixels, none where theirs are taken as they are. Refuses transparent pixels for which nothing is said; without
/// any, their colours are all there is.
fn behind<S: Sample, const N: usize>(
    file: &Path,
    pixels: &[[S; N]],
    background: Option<Background>,
) -> Result<[Option<u8>; 3], DataError> {
    let is_opaque = |pixel: &[S; N]| pixel[N - 1].into() == S::MAX;
    match background {
        Some(Background::Color(color)) => Ok(color.map(Some)),
        Some(Background::KeepRgb) => Ok([None; 3]),
        None if pixels.iter().all(is_opaque) => Ok([None; 3]),
        None => Err(DataError::Transparent {
            file: file.to_owned(),
            of: None,
        }),
    }
}

/// Grey and alpha, `[…, 2]`: grey again where the background is.
pub(super) fn grey<S: Sample>(
    file: &Path,
    samples: &[S],
    background: Option<Background>,
) -> Result<Pixels, DataError> {
    let (pixels, _) = samples.as_chunks::<2>();
    let [red, green, blue] = behind(file, pixels, background)?;
    if red == green && green == blue {
        let mixed = pixels.iter().map(|&[grey, alpha]| over(grey, alpha, red));
        return Ok((Channels::Grey, mixed.collect()));
    }
    let color = |&[grey, alpha]: &[S; 2]| [red, green, blue].map(|part| over(grey, alpha, part));
    Ok((Channels::Color, pixels.iter().flat_map(color).collect()))
}

/// Colours and alpha, `[…, 4]`.
pub(super) fn color<S: Sample>(
    file: &Path,
    samples: &[S],
    background: Option<Background>,
) -> Result<Pixels, DataError> {
    let (pixels, _) = samples.as_chunks::<4>();
    let [red, green, blue] = behind(file, pixels, background)?;
    let color = |&[r, g, b, alpha]: &[S; 4]| {
        [(r, red), (g, green), (b, blue)].map(|(sample, part)| over(sample, alpha, part))
    };
    Ok((Channels::Color, pixels.iter().flat_map(color).collect()))
}
