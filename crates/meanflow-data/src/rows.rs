//! An array that stays on the disk and is read row by row: for arrays larger than the memory.

use std::fs::File;
use std::path::{Path, PathBuf};

use half::f16;
use safetensors::Dtype;

use crate::DataError;
use crate::file::{open_regular, read_at};
use crate::npy::words;
use crate::npy_header::{self, bytes_of};

/// An open array of `<f2` or `<f4` elements, `[N, …]`, N at least 1.
#[derive(Debug)]
pub(crate) struct ArrayRows {
    path: PathBuf,
    file: File,
    dtype: Dtype,
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
        let shape: Vec<usize> = header.shape.iter().map(|&side| side as usize).collect();
        let rows = Self::part(path, file, (header.dtype, &shape), header.length)?;
        // The same order where at most one axis is longer than 1.
        if header.by_columns && shape.iter().filter(|side| **side > 1).count() > 1 {
            let expected = "rows one after the other, for they are read from the disk one by one: save numpy.ascontiguousarray(array)";
            let got = "Fortran's order, column after column";
            return DataError::refuse(path, 0, "fortran_order", expected, got);
        }
        let expected = u64::try_from(header.payload()).unwrap_or(u64::MAX);
        DataError::of_length(
            path,
            "elements of the array",
            expected,
            size - header.length,
        )?;
        Ok(rows)
    }

    /// Rows of `<f2` or `<f4` elements that begin at byte `start` of a file, whose length is checked by the caller; `path` is their
    /// name in messages.
    ///
    /// # Errors
    /// [`DataError::Field`] for another element type, no axis or an axis of length 0.
    pub(crate) fn part(
        path: &Path,
        file: File,
        (dtype, shape): (Dtype, &[usize]),
        start: u64,
    ) -> Result<Self, DataError> {
        if !matches!(dtype, Dtype::F16 | Dtype::F32) {
            let got = format!("{dtype:?}");
            return DataError::refuse(
                path,
                start,
                "element type",
                "F16 or F32 ('<f2' or '<f4')",
                got,
            );
        }
        match shape {
            [count, row @ ..] if !shape.contains(&0) => Ok(Self {
                path: path.to_owned(),
                file,
                dtype,
                count: *count,
                shape: row.to_vec(),
                start,
            }),
            _ => DataError::refuse(
                path,
                start,
                "shape",
                "rows, none empty",
                format!("{shape:?}"),
            ),
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
        let size = self.shape.iter().product::<usize>() as u64 * bytes_of(self.dtype);
        let offset = self.start + index as u64 * size;
        let bytes = read_at(&self.file, &self.path, offset, size)?;
        let row: Vec<f32> = match self.dtype {
            Dtype::F16 => words(&bytes, |word| f16::from_le_bytes(word).to_f32()),
            _ => words(&bytes, f32::from_le_bytes),
        };
        let Some(place) = row.iter().position(|value| !value.is_finite()) else {
            return Ok(row);
        };
        let offset = offset + place as u64 * bytes_of(self.dtype);
        DataError::refuse(&self.path, offset, "element", "a finite number", row[place])
    }
}
