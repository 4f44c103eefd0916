//! Resizing to the bit as Pillow does it, and the crop that published ImageNet models were trained on.
//!
//! A filter is stretched by the factor of a reduction, so that every source pixel counts (what torchvision calls
//! antialias); first along the rows, then along the columns. The weights are numbers of 22 bits behind the
//! point and the result is rounded in between. Libraries that round
//! weights otherwise differ by one, and where a pixel lies on the border of a box by much more.

mod weights;

use std::borrow::Cow;

use weights::weights;

use crate::{DataError, Picture};

/// How neighbours are weighted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Filter {
    /// All the same.
    Box,
    /// Less with the distance, up to 1 pixel.
    Bilinear,
    /// Keys' cubic with a = −½, up to 2 pixels.
    Bicubic,
}

/// Longest side to resize to or from.
const MAX_SIDE: usize = 1 << 20;

/// The picture at another size `[height, width]`.
///
/// # Errors
/// [`DataError::Shape`] for a side of 0 or above 2²⁰.
pub fn resize(
    picture: &Picture,
    [height, width]: [usize; 2],
    filter: Filter,
) -> Result<Picture, DataError> {
    let [from_height, from_width, channels] = picture.shape();
    let sides = [from_height, from_width, height, width];
    if sides.iter().any(|side| !(1..=MAX_SIDE).contains(side)) {
        let got = format!("{from_height}×{from_width} to {height}×{width}");
        return DataError::misfit("sides to resize", "1 to 2²⁰", got);
    }
    let halves = |from: usize, to: usize| filter == Filter::Box && from == 2 * to;
    let mut pixels = Cow::Borrowed(picture.pixels());
    if halves(from_width, width) {
        pixels = Cow::Owned(half_rows(&pixels, channels));
    } else if from_width != width {
        let taps = taps(from_width, width, filter);
        pixels = Cow::Owned(along_rows(&pixels, from_width * channels, channels, &taps));
    }
    if halves(from_height, height) {
        pixels = Cow::Owned(halved(&pixels, width * channels));
    } else if from_height != height {
        let taps = taps(from_height, height, filter);
        pixels = Cow::Owned(along_columns(&pixels, width * channels, &taps));
    }
    Picture::new([height, width, channels], pixels.into_owned())
}

/// The centre square of a picture at `size`×`size`, as ADM made it (`center_crop_arr` of Dhariwal and Nichol 2021):
/// halved by a box while the shorter side is at least twice `size`, then to `size` by the bicubic filter, then cut.
///
/// # Errors
/// [`DataError::Shape`] when `size` is 0, or so large that a side is above 2²⁰.
pub fn center_crop(picture: &Picture, size: usize) -> Result<Picture, DataError> {
    if size == 0 || size > MAX_SIDE {
        return DataError::misfit("size of a crop", "1 to 2²⁰", size);
    }
    let [height, width, _] = picture.shape();
    let mut sides = [height, width];
    let mut halved = None;
    while sides[0].min(sides[1]) >= 2 * size {
        sides = sides.map(|side| side / 2);
        let whole = halved.as_ref().unwrap_or(picture);
        halved = Some(resize(whole, sides, Filter::Box)?);
    }
    let whole = halved.as_ref().unwrap_or(picture);
    let scale = size as f64 / sides[0].min(sides[1]) as f64;
    // Python rounds halves to even.
    let scaled = sides.map(|side| (side as f64 * scale).round_ties_even() as usize);
    if scaled == sides {
        return Ok(cut(whole, size));
    }
    Ok(cut(&resize(whole, scaled, Filter::Bicubic)?, size))
}

/// The middle `size`×`size` pixels; where they cannot be in the middle, nearer to the upper left.
fn cut(picture: &Picture, size: usize) -> Picture {
    let [height, width, channels] = picture.shape();
    let (top, left) = ((height - size) / 2, (width - size) / 2);
    let rows = picture.pixels().chunks_exact(width * channels);
    let rows = rows.skip(top).take(size);
    let pixels = rows.flat_map(|row| &row[left * channels..(left + size) * channels]);
    let pixels = pixels.copied().collect();
    Picture::new([size, size, channels], pixels).expect("a square inside of a picture")
}

/// The first source pixel of every target pixel, and the weights from there on.
type Taps = [(usize, Vec<i32>)];

fn taps(from: usize, to: usize, filter: Filter) -> Vec<(usize, Vec<i32>)> {
    // Halves away from 0, as `round` does.
    let whole = |weight: f64| (weight * f64::from(1 << BITS)).round() as i32;
    let windows = weights(from, to, filter).into_iter();
    windows
        .map(|(first, weights)| (first, weights.into_iter().map(whole).collect()))
        .collect()
}

/// As [`along_rows`] with a box over two: a box that halves has no weights that differ, and is most of the work on large pictures.
fn half_rows(values: &[u8], channels: usize) -> Vec<u8> {
    if channels != 3 {
        return halved(values, channels);
    }
    let pairs = values.as_chunks::<6>().0.iter();
    let means = pairs.map(|&[a, b, c, d, e, f]| [(a, d), (b, e), (c, f)]);
    means.flat_map(|pixel| pixel.map(mean)).collect()
}

/// The mean of every two neighbours of `length` values; of whole rows it is [`along_columns`] with a box over two.
fn halved(values: &[u8], length: usize) -> Vec<u8> {
    let mut halved = Vec::with_capacity(values.len() / 2);
    for pair in values.chunks_exact(2 * length) {
        let (one, other) = pair.split_at(length);
        let pairs = one.iter().copied().zip(other.iter().copied());
        halved.extend(pairs.map(mean));
    }
    halved
}

/// What the sum of two with weights of one half rounds to.
fn mean((one, other): (u8, u8)) -> u8 {
    ((u16::from(one) + u16::from(other) + 1) >> 1) as u8
}

/// Rows of `length` values become rows of another length.
fn along_rows(values: &[u8], length: usize, channels: usize, taps: &Taps) -> Vec<u8> {
    let mut resized = Vec::with_capacity(values.len() / length * taps.len() * channels);
    for row in values.chunks_exact(length) {
        for (first, taps) in taps {
            let window = &row[first * channels..(first + taps.len()) * channels];
            if channels == 3 {
                let mut sums = [HALF; 3];
                for (pixel, &tap) in window.as_chunks::<3>().0.iter().zip(taps) {
                    for (sum, &value) in sums.iter_mut().zip(pixel) {
                        *sum += i32::from(value) * tap;
                    }
                }
                resized.extend(sums.map(rounded));
                continue;
            }
            for channel in 0..channels {
                let values = window.iter().skip(channel).step_by(channels);
                let sum: i32 = values.zip(taps).map(|(&v, &tap)| i32::from(v) * tap).sum();
                resized.push(rounded(HALF + sum));
            }
        }
    }
    resized
}

/// As many rows of `length` values as there are windows.
fn along_columns(values: &[u8], length: usize, taps: &Taps) -> Vec<u8> {
    let mut resized = Vec::with_capacity(taps.len() * length);
    let mut sums = vec![HALF; length];
    for (first, taps) in taps {
        sums.fill(HALF);
        for (row, &tap) in values[first * length..].chunks_exact(length).zip(taps) {
            for (sum, &value) in sums.iter_mut().zip(row) {
                *sum += i32::from(value) * tap;
            }
        }
        resized.extend(sums.iter().map(|&sum| rounded(sum)));
    }
    resized
}

/// Bits of a weight behind the point: eight for the value and two for the weights that are above 1 or below 0 leave
/// these of 32.
const BITS: u32 = 22;
/// One half: with it, cutting a sum off rounds it.
const HALF: i32 = 1 << (BITS - 1);

fn rounded(sum: i32) -> u8 {
    (sum >> BITS).clamp(0, 255) as u8
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn halving_is_what_weights_of_one_half_give(
            height in 1_usize..9, width in 1_usize..9, color: bool, seed in prop::collection::vec(any::<u8>(), 1024),
        ) {
            let channels = if color { 3 } else { 1 };
            let bytes = &seed[..4 * height * width * channels];
            let picture = Picture::new([2 * height, 2 * width, channels], bytes.to_vec()).unwrap();
            let halved = resize(&picture, [height, width], Filter::Box).unwrap();
            let taps = |side: usize| taps(2 * side, side, Filter::Box);
            let rows = along_rows(bytes, 2 * width * channels, channels, &taps(width));
            prop_assert_eq!(halved.pixels(), along_columns(&rows, width * channels, &taps(height)));
        }
    }
}
