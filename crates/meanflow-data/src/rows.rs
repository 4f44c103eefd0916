//! An array that stays on the disk and is read row by row: for arrays larger than the memory.

use std::fs::File;
use std::path::{Path, PathBuf};

use half::f16;

use crate::DataError;
use crate::file::open_regular;
use crate::npy::words;
use crate::npy_header::{self, DType, Header};
use crate::read_at::read_at;

/// An open array of `<f2` or `<f4` elements, `[N, …]`, N at least 1.
#[derive(Debug)]
pub(crate) struct ArrayRows {
    path: PathBuf,
    file: File,
    dtype: DType,
    count: usize,
    shape: Vec<usize>,
    /// Bytes before the first row.
    start: u64,
}

impl ArrayRows {
    /// Opens a file; header and length must agree to the byte.
    ///
    /// # Errors
    /// [`DataError::Io`]; [`DataError::Field`] for another element type, no axis, an axis of length 0 or Fortran's order;
    /// [`DataError::Length`] when bytes are missing or left over.
    pub(crate) fn open(path: &Path) -> Result<Self, DataError> {
        let (file, size) = open_regular(path)?;
        let header = npy_header::read(&mut &file, path)?;
        check(path, &header, size)?;
        let mut axes = header.shape.iter().map(|&side| side as usize);
        Ok(Self {
            path: path.to_owned(),
            dtype: header.dtype,
            count: axes.next().unwrap_or(0),
            shape: axes.collect(),
            start: header.length,
            file,
        })
    }

    /// Rows of `<f2` or `<f4` elements that begin at byte `start` of a file, whose length was checked; `path` is their name in
    /// messages.
    ///
    /// # Errors
    /// [`DataError::Field`] for another element type, no axis or an axis of length 0.
    pub(crate) fn part(
        path: &Path,
        file: File,
        (dtype, shape): (Option<DType>, &[usize]),
        start: u64,
    ) -> Result<Self, DataError> {
        let dtype = dtype.filter(|dtype| matches!(dtype, DType::F16 | DType::F32));
        let Some(dtype) = dtype else {
            let expected = "F16 or F32";
            return Err(DataError::field(
                path,
                start,
                "element type",
                expected,
                "another",
            ));
        };
        match shape {
            [count, row @ ..] if !shape.contains(&0) => Ok(Self {
                path: path.to_owned(),
                file,
                dtype,
                count: *count,
                shape: row.to_vec(),
                start,
            }),
            _ => {
                let got = format!("{shape:?}");
                Err(DataError::field(
                    path,
                    start,
                    "shape",
                    "rows, none empty",
                    got,
                ))
            }
        }
    }

    /// What the elements are called in messages.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Number of rows.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// Shape of a row.
    pub(crate) fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The elements of row `index`, which is below [`ArrayRows::count`].
    ///
    /// # Errors
    /// [`DataError::Io`], also when the file has become shorter; [`DataError::Field`] for an element that is not
    /// finite.
    pub(crate) fn row(&self, index: usize) -> Result<Vec<f32>, DataError> {
        let size = self.shape.iter().product::<usize>() * self.dtype.bytes();
        let offset = self.start + index as u64 * size as u64;
        let mut bytes = vec![0; size];
        read_at(&self.file, &mut bytes, offset).map_err(DataError::io(&self.path))?;
        let row: Vec<f32> = match self.dtype {
            DType::F16 => words(&bytes, |word| f16::from_le_bytes(word).to_f32()),
            _ => words(&bytes, f32::from_le_bytes),
        };
        match row.iter().position(|value| !value.is_finite()) {
            None => Ok(row),
            Some(place) => Err(DataError::field(
                &self.path,
                offset + (place * self.dtype.bytes()) as u64,
                "element",
                "a finite number",
                row[place],
            )),
        }
    }
}

/// Refuses what is not an array of rows of floating-point numbers, whole to the byte.
fn check(path: &Path, header: &Header, size: u64) -> Result<(), DataError> {
    if !matches!(header.dtype, DType::F16 | DType::F32) {
        let got = format!("{:?}", header.dtype);
        let expected = "'<f2' or '<f4'";
        return Err(DataError::field(path, 0, "element type", expected, got));
    }
    if header.shape.is_empty() || header.shape.contains(&0) {
        let (expected, got) = ("rows, none empty", format!("{:?}", header.shape));
        return Err(DataError::field(path, 0, "shape", expected, got));
    }
    // The same order where at most one axis is longer than 1.
    if header.by_columns && header.shape.iter().filter(|side| **side > 1).count() > 1 {
        let expected = "rows one after the other, for they are read from the disk one by one: save numpy.ascontiguousarray(array)";
        let (field, got) = ("fortran_order", "Fortran's order, column after column");
        return Err(DataError::field(path, 0, field, expected, got));
    }
    let bytes = header
        .shape
        .iter()
        .try_fold(header.dtype.bytes() as u64, |bytes, &side| {
            bytes.checked_mul(side)
        });
    let (expected, got) = (bytes.unwrap_or(u64::MAX), size - header.length);
    if got == expected {
        return Ok(());
    }
    Err(DataError::Length {
        file: path.to_owned(),
        part: "elements of the array",
        expected,
        got,
    })
}
