//! MNIST's IDX files, plain or gzipped, read strictly: magic, counts and length must agree to the byte.
//!
//! An image file is `00 00 08 03`, three big-endian u32 (count, rows, columns) and the pixels; a label file is
//! `00 00 08 01`, the count and one byte a label. The format is <http://yann.lecun.com/exdb/mnist/>'s.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;

use crate::file::{open_regular, refuse_bomb};
use crate::{DataError, MemoryDataset};

/// Longest file that is read, gzipped or not; what a gzipped one inflates to has the same limit.
pub const MAX_BYTES: u64 = 2 << 30;
/// Longest picture side that is read.
pub const MAX_SIDE: u32 = 16_384;

const IMAGES_MAGIC: u32 = 0x0000_0803;
const LABELS_MAGIC: u32 = 0x0000_0801;
/// Bytes of the header of an image file; a label file's has half of it.
const LONGEST_HEADER: u64 = 16;

/// The pairs of names that [`read_directory`] looks for, in this order, each plain or with `.gz` behind it.
pub const NAMES: [(&str, &str); 2] = [
    ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    ("images-idx3-ubyte", "labels-idx1-ubyte"),
];

/// Reads the training pair of `directory`: the first of [`NAMES`] whose image file exists; plain before gzipped. Where the
/// names have a dot for the hyphen before `idx`, as unpackers and Kaggle write them, they are found too.
///
/// # Errors
/// As [`read_pair`]; when no image file exists, [`DataError::Field`] with the name that was looked for and those like it.
pub fn read_directory(directory: &Path) -> Result<MemoryDataset, DataError> {
    let pairs = NAMES.map(|(images, labels)| [images, labels].map(|name| find(directory, name)));
    let found = pairs.iter().find(|[images, _]| images.is_file());
    let Some([images, labels]) = found else {
        return Err(not_there(directory));
    };
    read_pair(images, labels)
}

/// Whether [`read_directory`] would find an image file.
pub(crate) fn is_there(directory: &Path) -> bool {
    NAMES
        .iter()
        .any(|(images, _)| find(directory, images).is_file())
}

/// The file of this name, with a hyphen or a dot before `idx`, or the gzipped one if only that exists.
fn find(directory: &Path, name: &str) -> PathBuf {
    let dotted = name.replace("-idx", ".idx");
    let both = |end: &str| [name, &dotted].map(|name| directory.join(format!("{name}{end}")));
    let mut paths = both("").into_iter().chain(both(".gz"));
    paths
        .find(|path| path.is_file())
        .unwrap_or_else(|| directory.join(name))
}

/// The error of a folder without any of the names.
fn not_there(directory: &Path) -> DataError {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) => return DataError::io(&directory.join(NAMES[0].0))(error),
    };
    let names = entries.flatten().map(|entry| entry.file_name());
    let mut like: Vec<String> = names
        .map(|name| name.to_string_lossy().into_owned())
        .filter(|name| name.contains("idx") || name.contains("ubyte"))
        .collect();
    like.sort_unstable();
    like.truncate(8);
    let got = if like.is_empty() {
        "no file like it".to_owned()
    } else {
        like.join(", ")
    };
    let expected = format!("{} or {}, plain or with .gz", NAMES[0].0, NAMES[1].0);
    DataError::field(directory, 0, "files of MNIST's format", expected, got)
}

/// Reads one image file and its label file; a name that ends in `.gz` is inflated.
///
/// # Errors
/// As [`parse`], and [`DataError::Io`], also for damaged gzip; [`DataError::Limit`] for a file longer than
/// [`MAX_BYTES`] before it is read, and for one whose header promises more before that much is inflated.
pub fn read_pair(images: &Path, labels: &Path) -> Result<MemoryDataset, DataError> {
    parse((images, &read_file(images)?), (labels, &read_file(labels)?))
}

/// The data set in the bytes of an image file and a label file, each with the name to use in messages.
///
/// Grey pictures of shape `[1, rows, columns]`; the number of classes is the largest label plus one.
///
/// # Errors
/// [`DataError::Field`] for a wrong magic number, a zero count or side, or counts that differ;
/// [`DataError::Limit`] for a side above [`MAX_SIDE`]; [`DataError::Length`] when bytes are missing or left over.
pub fn parse(images: (&Path, &[u8]), labels: (&Path, &[u8])) -> Result<MemoryDataset, DataError> {
    let (file, bytes) = images;
    let ([count, rows, columns], pixels) = header(file, bytes, IMAGES_MAGIC)?;
    for side in [rows, columns] {
        DataError::within(file, "picture side", MAX_SIDE.into(), side)?;
    }
    let expected = u64::from(count) * u64::from(rows) * u64::from(columns);
    DataError::of_length(file, "pixels", expected, pixels.len() as u64)?;

    let (file, bytes) = labels;
    let ([label_count], marks) = header(file, bytes, LABELS_MAGIC)?;
    if label_count != count {
        return DataError::refuse(file, 4, "count", count, label_count);
    }
    DataError::of_length(file, "labels", count.into(), marks.len() as u64)?;

    let classes = usize::from(marks.iter().copied().max().unwrap_or(0)) + 1;
    let shape = [1, rows as usize, columns as usize];
    let marks = marks.iter().map(|&mark| i64::from(mark)).collect();
    MemoryDataset::from_pictures(pixels.to_vec(), shape, marks, classes)
}

/// Checks the magic number, reads the `K` sizes behind it (none of which may be 0) and returns the rest.
fn header<'a, const K: usize>(
    file: &Path,
    bytes: &'a [u8],
    magic: u32,
) -> Result<([u32; K], &'a [u8]), DataError> {
    let mut rest = bytes;
    let mut next = || {
        let short = || DataError::length(file, "header", 4 + 4 * K as u64, bytes.len() as u64);
        let (word, tail) = rest.split_first_chunk().ok_or_else(short)?;
        rest = tail;
        Ok(u32::from_be_bytes(*word))
    };
    let found = next()?;
    if found != magic {
        let (expected, got) = (format!("{magic:#010x}"), format!("{found:#010x}"));
        return DataError::refuse(file, 0, "magic number", expected, got);
    }
    let mut sizes = [0; K];
    for (index, size) in sizes.iter_mut().enumerate() {
        *size = next()?;
        if *size == 0 {
            let offset = 4 + 4 * index as u64;
            return DataError::refuse(file, offset, "size", "1 or more", 0);
        }
    }
    Ok((sizes, rest))
}

/// The whole of a file, inflated if it is gzipped, but not more than its header promises and one byte.
fn read_file(path: &Path) -> Result<Vec<u8>, DataError> {
    let (file, size) = open_regular(path)?;
    DataError::within(path, "file size in bytes", MAX_BYTES, size)?;
    // A file that grows meanwhile, a device that never ends or gzip that inflates without end is cut by its header.
    let end = path.extension();
    let mut reader: Box<dyn Read> = if end.is_some_and(|end| end.eq_ignore_ascii_case("gz")) {
        Box::new(MultiGzDecoder::new(file.take(MAX_BYTES)))
    } else {
        Box::new(file)
    };
    let mut bytes = Vec::new();
    let mut read = |count, bytes: &mut Vec<u8>| {
        let part = reader.by_ref().take(count).read_to_end(bytes);
        part.map_err(DataError::io(path))
    };
    read(LONGEST_HEADER, &mut bytes)?;
    let promised = promised(&bytes);
    DataError::within(path, "file size in bytes", MAX_BYTES, promised)?;
    refuse_bomb(path, size, promised)?;
    let missing = (promised as u64 + 1).saturating_sub(bytes.len() as u64);
    read(missing, &mut bytes)?;
    Ok(bytes)
}

/// How long the file is that begins so: as its header says, or, without a header, no longer than this.
fn promised(start: &[u8]) -> u128 {
    let (words, _) = start.as_chunks();
    let words: Vec<_> = words.iter().map(|word| u32::from_be_bytes(*word)).collect();
    match words[..] {
        [IMAGES_MAGIC, count, rows, columns] => {
            let size = [rows, columns].into_iter().map(u128::from);
            16 + size.fold(count.into(), |size: u128, side| size.saturating_mul(side))
        }
        [LABELS_MAGIC, count, ..] => 8 + u128::from(count),
        _ => start.len() as u128,
    }
}
