//! NumPy's `.npy` arrays: a header of our own, read strictly.
//!
//! Bytes, integers and floating-point numbers in little-endian bytes; anything else (pickled objects above all) is refused. Arrays in
//! Fortran's order are read into C order, which takes the memory of a second one for a moment; what is written is in C order.
//! The format is the one that NumPy documents as NEP 1, versions 1.0 to 3.0.

use std::io::{Read, Write};
use std::path::Path;

use half::f16;
use safetensors::Dtype;

use crate::file::{open_regular, refuse_bomb};
use crate::npy_header::{self, bytes_of};
use crate::{DataError, write_atomically};

/// An array in C order.
#[derive(Clone, Debug, PartialEq)]
pub struct NpyArray {
    /// Length of every axis; empty for a scalar.
    pub shape: Vec<usize>,
    /// The elements, as many as the product of `shape`.
    pub data: NpyData,
}

/// The elements of an [`NpyArray`].
#[derive(Clone, Debug, PartialEq)]
pub enum NpyData {
    /// `|u1`
    U8(Vec<u8>),
    /// `<i8`, or any other integer type but `|u1`, widened.
    I64(Vec<i64>),
    /// `<f2`
    F16(Vec<f16>),
    /// `<f4`
    F32(Vec<f32>),
    /// `<f8`
    F64(Vec<f64>),
}

/// An array in C order that belongs to someone else.
#[derive(Clone, Copy, Debug)]
pub struct NpyView<'a> {
    /// Length of every axis.
    pub shape: &'a [usize],
    /// The elements, as many as the product of `shape`.
    pub data: NpySlice<'a>,
}

/// The elements of an [`NpyView`].
#[derive(Clone, Copy, Debug)]
pub enum NpySlice<'a> {
    /// `|u1`
    U8(&'a [u8]),
    /// `<i8`
    I64(&'a [i64]),
    /// `<f2`
    F16(&'a [f16]),
    /// `<f4`
    F32(&'a [f32]),
    /// `<f8`
    F64(&'a [f64]),
}

/// Reads a `.npy` file whose elements take at most `max_bytes`.
///
/// # Errors
/// [`DataError::Io`]; [`DataError::Field`] for a header that is not strictly as described above;
/// [`DataError::Length`] when bytes are missing or left over; [`DataError::Limit`] above `max_bytes`.
pub fn read(path: &Path, max_bytes: u64) -> Result<NpyArray, DataError> {
    let (file, size) = open_regular(path)?;
    read_from(file, (size, size), path, max_bytes)
}

/// Writes a `.npy` file, whole or not at all.
///
/// # Errors
/// [`DataError::Shape`] when shape and data do not fit; [`DataError::Io`].
///
/// ```
/// use meanflow_data::npy::{self, NpyData, NpySlice, NpyView};
///
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("a.npy");
/// let data = NpySlice::F32(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
/// npy::write(&path, NpyView { shape: &[2, 3], data })?;
/// // At most a megabyte is read.
/// let array = npy::read(&path, 1 << 20)?;
/// assert_eq!(array.shape, [2, 3]);
/// assert!(matches!(array.data, NpyData::F32(values) if values[5] == 6.0));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn write(path: &Path, array: NpyView<'_>) -> Result<(), DataError> {
    write_atomically(path, |file| array.write_to(file, path))
}

/// Writes a `.npy` file of `<f4` elements that come in parts, in order: an array larger than the memory. Whole or not at all.
///
/// # Errors
/// That of a part; [`DataError::Shape`] when the parts do not have as many elements as `shape`; [`DataError::Io`].
pub fn write_chunks<E: From<DataError>>(
    path: &Path,
    shape: &[usize],
    parts: impl Iterator<Item = Result<Vec<f32>, E>>,
) -> Result<(), E> {
    write_atomically(path, |file| {
        let header = npy_header::encode(Dtype::F32, shape);
        file.write_all(&header).map_err(DataError::io(path))?;
        let mut got = 0;
        for part in parts {
            let part = part?;
            write_words(file, &part, f32::to_le_bytes).map_err(DataError::io(path))?;
            got += part.len();
        }
        refuse_other_count(shape, got).map_err(E::from)
    })
}

/// Reads an array out of a stream of `size` bytes, inflated from `stored`; `file` is its name in messages.
pub(crate) fn read_from(
    mut reader: impl Read,
    (size, stored): (u64, u64),
    file: &Path,
    max_bytes: u64,
) -> Result<NpyArray, DataError> {
    let header = npy_header::read(&mut reader, file)?;
    let bytes = header.payload();
    DataError::within(file, "array size in bytes", max_bytes, bytes)?;
    let payload = bytes as u64;
    let of_length = |got| DataError::of_length(file, "elements of the array", payload, got);
    of_length(size.saturating_sub(header.length))?;
    refuse_bomb(file, stored, bytes)?;
    let buffer = elements(reader, payload, file)?;
    of_length(buffer.len() as u64)?;
    let shape: Vec<usize> = header.shape.iter().map(|&side| side as usize).collect();
    let data = NpyData::from_bytes(header.dtype, buffer).ok_or_else(|| {
        DataError::field(file, header.length, "element", "below 2⁶³", "a larger one")
    })?;
    let data = if header.by_columns {
        data.in_c_order(&shape)
    } else {
        data
    };
    Ok(NpyArray { shape, data })
}

/// The bytes of all elements, up to one too many. The buffer takes no more pages than bytes really come.
fn elements(reader: impl Read, payload: u64, file: &Path) -> Result<Vec<u8>, DataError> {
    let mut buffer = Vec::new();
    buffer
        .try_reserve_exact(payload as usize + 1)
        .map_err(|error| DataError::io(file)(error.into()))?;
    reader
        .take(payload + 1)
        .read_to_end(&mut buffer)
        .map_err(DataError::io(file))?;
    Ok(buffer)
}

impl NpyArray {
    /// The elements as labels, whatever integer type they have; none for floating-point numbers.
    pub fn labels(&self) -> Option<Vec<i64>> {
        self.data.labels()
    }
}

impl NpyData {
    /// The elements, integers widened; none for one that does not fit into 64 bits with a sign, and for other types than [`npy_header`]'s.
    pub(crate) fn from_bytes(dtype: Dtype, bytes: Vec<u8>) -> Option<Self> {
        Some(match dtype {
            Dtype::U8 => Self::U8(bytes),
            Dtype::I64 => Self::I64(words(&bytes, i64::from_le_bytes)),
            Dtype::F16 => Self::F16(words(&bytes, f16::from_le_bytes)),
            Dtype::F32 => Self::F32(words(&bytes, f32::from_le_bytes)),
            Dtype::F64 => Self::F64(words(&bytes, f64::from_le_bytes)),
            Dtype::I8 => Self::I64(words(&bytes, |word| i8::from_le_bytes(word).into())),
            Dtype::I16 => Self::I64(words(&bytes, |word| i16::from_le_bytes(word).into())),
            Dtype::I32 => Self::I64(words(&bytes, |word| i32::from_le_bytes(word).into())),
            Dtype::U16 => Self::I64(words(&bytes, |word| u16::from_le_bytes(word).into())),
            Dtype::U32 => Self::I64(words(&bytes, |word| u32::from_le_bytes(word).into())),
            Dtype::U64 => {
                let wide = words(&bytes, |word| i64::try_from(u64::from_le_bytes(word)));
                Self::I64(wide.into_iter().collect::<Result<_, _>>().ok()?)
            }
            _ => return None,
        })
    }

    /// The elements as labels; none for floating-point numbers.
    pub(crate) fn labels(&self) -> Option<Vec<i64>> {
        match self {
            Self::U8(labels) => Some(labels.iter().map(|&label| label.into()).collect()),
            Self::I64(labels) => Some(labels.clone()),
            _ => None,
        }
    }

    /// The elements of an array of this shape, the last index fastest, that came with the first index fastest.
    fn in_c_order(self, shape: &[usize]) -> Self {
        match self {
            Self::U8(data) => Self::U8(by_rows(&data, shape)),
            Self::I64(data) => Self::I64(by_rows(&data, shape)),
            Self::F16(data) => Self::F16(by_rows(&data, shape)),
            Self::F32(data) => Self::F32(by_rows(&data, shape)),
            Self::F64(data) => Self::F64(by_rows(&data, shape)),
        }
    }
}

impl NpyView<'_> {
    /// Writes header and elements; `file` is the name in messages.
    pub(crate) fn write_to(&self, writer: &mut impl Write, file: &Path) -> Result<(), DataError> {
        let (dtype, count) = self.data.dtype_and_count();
        refuse_other_count(self.shape, count)?;
        let header = npy_header::encode(dtype, self.shape);
        let result = writer.write_all(&header).and_then(|()| match self.data {
            NpySlice::U8(data) => writer.write_all(data),
            NpySlice::I64(data) => write_words(writer, data, i64::to_le_bytes),
            NpySlice::F16(data) => write_words(writer, data, f16::to_le_bytes),
            NpySlice::F32(data) => write_words(writer, data, f32::to_le_bytes),
            NpySlice::F64(data) => write_words(writer, data, f64::to_le_bytes),
        });
        result.map_err(DataError::io(file))
    }

    /// Bytes that the elements take.
    pub(crate) fn bytes(&self) -> u64 {
        let (dtype, count) = self.data.dtype_and_count();
        count as u64 * bytes_of(dtype)
    }
}

impl NpySlice<'_> {
    fn dtype_and_count(&self) -> (Dtype, usize) {
        match self {
            Self::U8(data) => (Dtype::U8, data.len()),
            Self::I64(data) => (Dtype::I64, data.len()),
            Self::F16(data) => (Dtype::F16, data.len()),
            Self::F32(data) => (Dtype::F32, data.len()),
            Self::F64(data) => (Dtype::F64, data.len()),
        }
    }
}

/// Refuses another number of elements than an array of this shape has.
fn refuse_other_count(shape: &[usize], got: usize) -> Result<(), DataError> {
    let count = shape.iter().product::<usize>();
    if got == count {
        return Ok(());
    }
    let expected = format!("{count} for shape {shape:?}");
    DataError::misfit("elements of an array", expected, got)
}

/// Elements with the last index fastest from those with the first index fastest.
fn by_rows<T: Copy>(by_columns: &[T], shape: &[usize]) -> Vec<T> {
    if by_columns.is_empty() {
        // Other axes of an empty array may be of any length.
        return Vec::new();
    }
    let step = |axis: usize| shape[..axis].iter().product::<usize>();
    let steps: Vec<usize> = (0..shape.len()).map(step).collect();
    let (mut index, mut place) = (vec![0; shape.len()], 0);
    let next = |_| {
        let element = by_columns[place];
        for axis in (0..shape.len()).rev() {
            index[axis] += 1;
            place += steps[axis];
            if index[axis] < shape[axis] {
                break;
            }
            place -= steps[axis] * shape[axis];
            index[axis] = 0;
        }
        element
    };
    (0..by_columns.len()).map(next).collect()
}

/// Little-endian words of `B` bytes each; the length is a multiple of `B` because the caller checked it.
pub(crate) fn words<const B: usize, T>(bytes: &[u8], decode: fn([u8; B]) -> T) -> Vec<T> {
    let (words, _) = bytes.as_chunks();
    words.iter().map(|&word| decode(word)).collect()
}

fn write_words<const B: usize, T: Copy>(
    writer: &mut impl Write,
    data: &[T],
    encode: fn(T) -> [u8; B],
) -> std::io::Result<()> {
    data.iter()
        .try_for_each(|&value| writer.write_all(&encode(value)))
}
