//! Transparent pixels over a background.

use std::path::Path;

use super::{Background, Pixels};
use crate::DataError;

/// A sample of eight or sixteen bits.
pub(super) trait Sample: Copy {
    /// The largest value: opaque, or as bright as can be.
    const MAX: u32;

    /// Its number.
    fn number(self) -> u32;
}

impl Sample for u8 {
    const MAX: u32 = 255;

    fn number(self) -> u32 {
        self.into()
    }
}

impl Sample for u16 {
    const MAX: u32 = 65_535;

    fn number(self) -> u32 {
        self.into()
    }
}

/// A sample over a background, to the nearest number of its own bits, of which the upper eight are kept.
fn over<S: Sample>(sample: S, alpha: S, background: u8) -> u8 {
    let (sample, alpha) = (u64::from(sample.number()), u64::from(alpha.number()));
    let max = u64::from(S::MAX);
    // A byte fills any number of bits evenly: 255 becomes 65535.
    let background = u64::from(background) * (max / 255);
    let mixed = (sample * alpha + background * (max - alpha) + max / 2) / max;
    upper::<S>(mixed as u32)
}

/// The upper eight bits.
fn upper<S: Sample>(number: u32) -> u8 {
    (number / ((S::MAX + 1) / 256)) as u8
}

/// Refuses transparent pixels for which nothing is said; without any, their colours are all there is.
fn background_of<S: Sample, const N: usize>(
    file: &Path,
    pixels: &[[S; N]],
    background: Option<Background>,
) -> Result<Background, DataError> {
    let is_opaque = |pixel: &[S; N]| pixel[N - 1].number() == S::MAX;
    match background {
        Some(background) => Ok(background),
        None if pixels.iter().all(is_opaque) => Ok(Background::KeepRgb),
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
    let background = background_of(file, pixels, background)?;
    let values = pixels.iter();
    Ok(match background {
        Background::KeepRgb => {
            Pixels::Grey(values.map(|[grey, _]| upper::<S>(grey.number())).collect())
        }
        Background::Color([red, green, blue]) if red == green && green == blue => Pixels::Grey(
            values
                .map(|&[grey, alpha]| over(grey, alpha, red))
                .collect(),
        ),
        Background::Color(color) => Pixels::Rgb(
            values
                .flat_map(|&[grey, alpha]| color.map(|behind| over(grey, alpha, behind)))
                .collect(),
        ),
    })
}

/// Colours and alpha, `[…, 4]`.
pub(super) fn color<S: Sample>(
    file: &Path,
    samples: &[S],
    background: Option<Background>,
) -> Result<Pixels, DataError> {
    let (pixels, _) = samples.as_chunks::<4>();
    let rgb = match background_of(file, pixels, background)? {
        Background::KeepRgb => {
            let stored = |&[red, green, blue, _]: &[S; 4]| {
                [red, green, blue].map(|sample| upper::<S>(sample.number()))
            };
            pixels.iter().flat_map(stored).collect()
        }
        Background::Color([behind_red, behind_green, behind_blue]) => {
            let mixed = |&[red, green, blue, alpha]: &[S; 4]| {
                [
                    over(red, alpha, behind_red),
                    over(green, alpha, behind_green),
                    over(blue, alpha, behind_blue),
                ]
            };
            pixels.iter().flat_map(mixed).collect()
        }
    };
    Ok(Pixels::Rgb(rgb))
}
