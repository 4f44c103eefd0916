//! Samples of model space as the bytes that features are made of.

use meanflow_data::picture::to_byte;
use meanflow_data::{DataError, Dataset};
use tch::Tensor;

/// Most pictures that are made features of at a time.
const MOST: usize = 500;
/// Most values of model space in memory at a time, 64 MiB of them; a larger picture is alone.
const MOST_VALUES: usize = 1 << 24;

/// How many samples of this shape are drawn, and made features of, at a time.
pub fn chunk(shape: &[usize]) -> usize {
    let values: usize = shape.iter().product();
    (MOST_VALUES / values.max(1)).clamp(1, MOST)
}

/// Samples `start..end` as bytes, `[B, C, H, W]`.
///
/// # Errors
/// When a picture cannot be read.
pub fn bytes_of(source: &dyn Dataset, start: usize, end: usize) -> Result<Tensor, DataError> {
    let indices: Vec<usize> = (start..end).collect();
    Ok(to_bytes(
        &source.batch(&indices, 0, 0)?.values,
        source.shape(),
    ))
}

/// Values of model space as bytes `[B, …shape]`.
pub fn to_bytes(values: &[f32], shape: &[usize]) -> Tensor {
    let bytes: Vec<u8> = values.iter().map(|&value| to_byte(value)).collect();
    let sides = shape.iter().map(|&side| side as i64);
    let size: Vec<i64> = std::iter::once(-1).chain(sides).collect();
    Tensor::from_slice(&bytes).reshape(size)
}
