//! CIFAR-10 and CIFAR-100 in their binary version, read strictly: every file has the published number of rows.
//!
//! A row is the label (CIFAR-100: the coarse label, then the fine one), a byte each, and 3072 bytes: 32×32 pixels row
//! by row, all red, then all green, then all blue. The format is
//! <https://www.cs.toronto.edu/~kriz/cifar.html>'s; its pickled Python version is never read.

use std::path::Path;

use crate::file::{open_regular, read_text, read_whole};
use crate::{DataError, MemoryDataset};

/// Shape of a picture.
pub const SHAPE: [usize; 3] = [3, 32, 32];
/// Pictures of the training part, of either set.
pub const TRAINING_PICTURES: usize = 50_000;

const PIXELS: usize = SHAPE[0] * SHAPE[1] * SHAPE[2];
/// Coarse classes of CIFAR-100.
const COARSE_CLASSES: usize = 20;

/// Which of the two sets.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Variant {
    /// CIFAR-10: ten classes.
    Ten,
    /// CIFAR-100: a hundred (fine) classes.
    Hundred,
}

/// Which part of a set.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Part {
    /// The 50,000 pictures to train on.
    Train,
    /// The 10,000 others.
    Test,
}

impl Variant {
    /// Number of classes.
    pub fn classes(self) -> usize {
        match self {
            Self::Ten => 10,
            Self::Hundred => 100,
        }
    }

    /// The files of a part, in the order of their rows, and how many rows each has.
    pub fn files(self, part: Part) -> (&'static [&'static str], usize) {
        match (self, part) {
            (Self::Ten, Part::Train) => (
                &[
                    "data_batch_1.bin",
                    "data_batch_2.bin",
                    "data_batch_3.bin",
                    "data_batch_4.bin",
                    "data_batch_5.bin",
                ],
                10_000,
            ),
            (Self::Ten, Part::Test) => (&["test_batch.bin"], 10_000),
            (Self::Hundred, Part::Train) => (&["train.bin"], 50_000),
            (Self::Hundred, Part::Test) => (&["test.bin"], 10_000),
        }
    }

    /// Upper ends of the label bytes that open a row.
    fn labels(self) -> &'static [(&'static str, usize)] {
        match self {
            Self::Ten => &[("label", 10)],
            Self::Hundred => &[("coarse label", COARSE_CLASSES), ("fine label", 100)],
        }
    }

    /// Bytes of a row.
    pub fn row_bytes(self) -> usize {
        self.labels().len() + PIXELS
    }
}

/// Reads a part of the set in `directory`.
///
/// # Shapes
/// `[3, 32, 32]`; N = 50,000 or 10,000; 10 or 100 classes.
///
/// # Errors
/// [`DataError::Io`] with the file that is missing; [`DataError::Length`] for a file that is not exactly as long as
/// published, before it is read; [`DataError::Field`] for a label out of range.
pub fn read_directory(
    directory: &Path,
    variant: Variant,
    part: Part,
) -> Result<MemoryDataset, DataError> {
    let (names, rows) = variant.files(part);
    let mut rows_read = PictureRows::default();
    for name in names {
        let path = directory.join(name);
        let bytes = read_exactly(&path, (rows * variant.row_bytes()) as u64)?;
        rows_read.append(variant, &path, &bytes)?;
    }
    let names = class_names(directory, variant)?;
    rows_read.finish(variant)?.with_class_names(names)
}

/// Longest file of names that is read.
const MAX_NAMES: u64 = 1 << 16;

/// The names of the classes, where their file lies beside the pictures as in the published archives.
fn class_names(directory: &Path, variant: Variant) -> Result<Option<Vec<String>>, DataError> {
    let path = directory.join(match variant {
        Variant::Ten => "batches.meta.txt",
        Variant::Hundred => "fine_label_names.txt",
    });
    if !path.is_file() {
        return Ok(None);
    }
    let text = read_text(&path, MAX_NAMES)?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let names: Vec<String> = lines.map(str::to_owned).collect();
    let (expected, got) = (variant.classes(), names.len());
    if got == expected {
        return Ok(Some(names));
    }
    DataError::refuse(&path, 0, "names of classes", expected, got)
}

/// The data set in the bytes of one file of any number of rows; `file` is its name in messages.
///
/// # Errors
/// [`DataError::Length`] when the last row is not whole or there is none; [`DataError::Field`] for a label out of
/// range.
pub fn parse(variant: Variant, file: &Path, bytes: &[u8]) -> Result<MemoryDataset, DataError> {
    let mut rows = PictureRows::default();
    rows.append(variant, file, bytes)?;
    rows.finish(variant)
}

/// What was read until now.
#[derive(Default)]
struct PictureRows {
    pixels: Vec<u8>,
    labels: Vec<i64>,
}

impl PictureRows {
    fn append(&mut self, variant: Variant, file: &Path, bytes: &[u8]) -> Result<(), DataError> {
        let size = variant.row_bytes();
        let rows = bytes.len().div_ceil(size).max(1);
        DataError::of_length(file, "rows", (rows * size) as u64, bytes.len() as u64)?;
        self.pixels.reserve(rows * PIXELS);
        for (index, row) in bytes.chunks_exact(size).enumerate() {
            let (labels, pixels) = row.split_at(variant.labels().len());
            for (place, (&label, &(name, end))) in labels.iter().zip(variant.labels()).enumerate() {
                if usize::from(label) >= end {
                    let offset = (index * size + place) as u64;
                    return DataError::refuse(file, offset, name, format!("0..{end}"), label);
                }
            }
            self.labels.push(labels.last().copied().unwrap_or(0).into());
            self.pixels.extend_from_slice(pixels);
        }
        Ok(())
    }

    fn finish(self, variant: Variant) -> Result<MemoryDataset, DataError> {
        MemoryDataset::from_pictures(self.pixels, SHAPE, self.labels, variant.classes())
    }
}

/// The whole of a file that is `expected` bytes long.
fn read_exactly(path: &Path, expected: u64) -> Result<Vec<u8>, DataError> {
    let (_, size) = open_regular(path)?;
    DataError::of_length(path, "rows", expected, size)?;
    // A file that grows meanwhile is cut after one byte too many, and refused.
    let bytes = read_whole(path, expected + 1)?;
    DataError::of_length(path, "rows", expected, bytes.len() as u64)?;
    Ok(bytes)
}
