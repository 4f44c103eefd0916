//! Resizing to the bit as Pillow does it, and the crop that published ImageNet models were trained on.
//!
//! A filter is stretched by the factor of a reduction, so that every source pixel counts (what torchvision calls
//! antialias); first along the rows, then along the columns. On bytes the weights are numbers of 22 bits behind the
//! point and the result is rounded in between; on `f32` it is neither rounded nor cut off. Libraries that round
//! weights otherwise differ by one, and where a pixel lies on the border of a box by much more.

mod weights;

use weights::Weights;

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
    let shape = picture.shape();
    let pixels = two_passes(picture.pixels(), shape, [height, width], filter)?;
    let pixels = pixels.unwrap_or_else(|| picture.pixels().to_vec());
    Picture::new([height, width, shape[2]], pixels)
}

/// The same for numbers, `[H, W, C]` row-major with any number of channels; sums are taken in `f64`.
///
/// # Errors
/// [`DataError::Shape`] for a side of 0 or above 2²⁰, and for values that are not as many as the shape says.
pub fn resize_f32(
    values: &[f32],
    shape: [usize; 3],
    size: [usize; 2],
    filter: Filter,
) -> Result<Vec<f32>, DataError> {
    Ok(two_passes(values, shape, size, filter)?.unwrap_or_else(|| values.to_vec()))
}

/// The centre square of a picture at `size`×`size`, as ADM made it (`center_crop_arr` of Dhariwal and Nichol 2021):
/// halved by a box while the shorter side is at least twice `size`, then to `size` by the bicubic filter, then cut.
///
/// # Errors
/// [`DataError::Shape`] when `size` is 0, or so large that a side is above 2²⁰.
pub fn center_crop(picture: &Picture, size: usize) -> Result<Picture, DataError> {
    if size == 0 || size > MAX_SIDE {
        return Err(DataError::shape("size of a crop", "1 to 2²⁰", size));
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

/// Along the rows, then along the columns; `None` where both sides stay as they are.
fn two_passes<T: Sample>(
    values: &[T],
    [height, width, channels]: [usize; 3],
    [to_height, to_width]: [usize; 2],
    filter: Filter,
) -> Result<Option<Vec<T>>, DataError> {
    let sides = [height, width, to_height, to_width];
    if sides.iter().any(|side| !(1..=MAX_SIDE).contains(side)) {
        let got = format!("{height}×{width} to {to_height}×{to_width}");
        return Err(DataError::shape("sides to resize", "1 to 2²⁰", got));
    }
    if Some(values.len()) != (height * width).checked_mul(channels) {
        let expected = format!("as many as in {height}×{width}×{channels}");
        return Err(DataError::shape("values to resize", expected, values.len()));
    }
    let halves = |from: usize, to: usize| filter == Filter::Box && from == 2 * to;
    let mut resized = None;
    if halves(width, to_width) {
        resized = Some(half_rows(values, channels));
    } else if width != to_width {
        let weights = Weights::new(width, to_width, filter);
        resized = Some(along_rows(values, width * channels, channels, &weights));
    }
    let values = resized.as_deref().unwrap_or(values);
    if halves(height, to_height) {
        return Ok(Some(half_columns(values, to_width * channels)));
    }
    if height != to_height {
        let weights = Weights::new(height, to_height, filter);
        return Ok(Some(along_columns(values, to_width * channels, &weights)));
    }
    Ok(resized)
}

/// As [`along_rows`] with a box over two: a box that halves has no weights that differ, and is most of the work on large pictures.
fn half_rows<T: Sample>(values: &[T], channels: usize) -> Vec<T> {
    let mut halved = Vec::with_capacity(values.len() / 2);
    if channels == 3 {
        let pairs = values.as_chunks::<6>().0.iter();
        let means = pairs.map(|&[a, b, c, d, e, f]| [(a, d), (b, e), (c, f)]);
        halved.extend(means.flat_map(|pixel| pixel.map(|(one, other)| T::mean(one, other))));
        return halved;
    }
    for pair in values.chunks_exact(2 * channels) {
        let (one, other) = pair.split_at(channels);
        halved.extend(
            one.iter()
                .zip(other)
                .map(|(&one, &other)| T::mean(one, other)),
        );
    }
    halved
}

/// As [`along_columns`] with a box over two.
fn half_columns<T: Sample>(values: &[T], length: usize) -> Vec<T> {
    let mut halved = Vec::with_capacity(values.len() / 2);
    for pair in values.chunks_exact(2 * length) {
        let (one, other) = pair.split_at(length);
        halved.extend(
            one.iter()
                .zip(other)
                .map(|(&one, &other)| T::mean(one, other)),
        );
    }
    halved
}

/// Rows of `length` values become rows of another length.
fn along_rows<T: Sample>(
    values: &[T],
    length: usize,
    channels: usize,
    weights: &Weights,
) -> Vec<T> {
    let taps = T::taps(weights);
    let mut resized = Vec::with_capacity(values.len() / length * taps.len() * channels);
    for row in values.chunks_exact(length) {
        for (first, taps) in &taps {
            let window = &row[first * channels..(first + taps.len()) * channels];
            if channels == 3 {
                let mut sums = [T::ZERO; 3];
                for (pixel, &tap) in window.as_chunks::<3>().0.iter().zip(taps) {
                    for (sum, &value) in sums.iter_mut().zip(pixel) {
                        *sum = T::add(*sum, value, tap);
                    }
                }
                resized.extend(sums.map(T::round));
                continue;
            }
            for channel in 0..channels {
                let values = window.iter().skip(channel).step_by(channels);
                let sum = values.zip(taps);
                let sum = sum.fold(T::ZERO, |sum, (&value, &tap)| T::add(sum, value, tap));
                resized.push(T::round(sum));
            }
        }
    }
    resized
}

/// As many rows of `length` values as there are windows.
fn along_columns<T: Sample>(values: &[T], length: usize, weights: &Weights) -> Vec<T> {
    let taps = T::taps(weights);
    let mut resized = Vec::with_capacity(taps.len() * length);
    let mut sums = vec![T::ZERO; length];
    for (first, taps) in &taps {
        sums.fill(T::ZERO);
        for (row, &tap) in values[first * length..].chunks_exact(length).zip(taps) {
            for (sum, &value) in sums.iter_mut().zip(row) {
                *sum = T::add(*sum, value, tap);
            }
        }
        resized.extend(sums.iter().map(|&sum| T::round(sum)));
    }
    resized
}

/// A dtype of pictures.
trait Sample: Copy {
    /// What is summed.
    type Sum: Copy;
    /// A weight.
    type Tap: Copy;
    /// The empty sum, with what rounding needs.
    const ZERO: Self::Sum;

    /// The first source and the weights of every target.
    fn taps(weights: &Weights) -> Vec<(usize, Vec<Self::Tap>)>;

    fn add(sum: Self::Sum, value: Self, tap: Self::Tap) -> Self::Sum;

    fn round(sum: Self::Sum) -> Self;

    /// What the sum of two with weights of one half rounds to.
    fn mean(one: Self, other: Self) -> Self;
}

/// Bits of a weight behind the point: eight for the value and two for the weights that are above 1 or below 0 leave
/// these of 32.
const BITS: u32 = 22;

impl Sample for u8 {
    type Sum = i32;
    type Tap = i32;
    const ZERO: i32 = 1 << (BITS - 1);

    fn taps(weights: &Weights) -> Vec<(usize, Vec<i32>)> {
        // Halves away from 0, as `round` does.
        weights.taps(|weight| (weight * f64::from(1 << BITS)).round() as i32)
    }

    fn add(sum: i32, value: u8, tap: i32) -> i32 {
        sum + i32::from(value) * tap
    }

    fn round(sum: i32) -> u8 {
        (sum >> BITS).clamp(0, 255) as u8
    }

    fn mean(one: u8, other: u8) -> u8 {
        ((u16::from(one) + u16::from(other) + 1) >> 1) as u8
    }
}

impl Sample for f32 {
    type Sum = f64;
    type Tap = f64;
    const ZERO: f64 = 0.0;

    fn taps(weights: &Weights) -> Vec<(usize, Vec<f64>)> {
        weights.taps(|weight| weight)
    }

    fn add(sum: f64, value: f32, tap: f64) -> f64 {
        sum + f64::from(value) * tap
    }

    fn round(sum: f64) -> f32 {
        sum as f32
    }

    fn mean(one: f32, other: f32) -> f32 {
        (0.5 * f64::from(one) + 0.5 * f64::from(other)) as f32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What weights would give along both sides.
    fn by_weights<T: Sample>(values: &[T], [height, width, channels]: [usize; 3]) -> Vec<T> {
        let weights = |side: usize| Weights::new(side, side / 2, Filter::Box);
        let rows = along_rows(values, width * channels, channels, &weights(width));
        along_columns(&rows, width / 2 * channels, &weights(height))
    }

    proptest! {
        #[test]
        fn halving_is_what_weights_of_one_half_give(
            height in 1_usize..9, width in 1_usize..9, channels in 1_usize..5, seed in prop::collection::vec(any::<u8>(), 1024),
        ) {
            let (shape, size) = ([2 * height, 2 * width, channels], [height, width]);
            let bytes = &seed[..4 * height * width * channels];
            let halved = two_passes(bytes, shape, size, Filter::Box).unwrap().unwrap();
            prop_assert_eq!(halved, by_weights(bytes, shape));
            let numbers: Vec<f32> = bytes.iter().map(|&byte| f32::from(byte) / 7.0 - 9.0).collect();
            let halved = two_passes(&numbers, shape, size, Filter::Box).unwrap().unwrap();
            prop_assert_eq!(halved, by_weights(&numbers, shape));
        }
    }
}
