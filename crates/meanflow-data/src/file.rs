//! Reading what a user names: regular files only, and never more memory than a file can honestly ask for.

use std::fs::{self, File, FileType};
use std::io::{Error, ErrorKind, Read};
use std::os::unix::fs::{FileExt, FileTypeExt};
use std::path::Path;

use crate::DataError;

/// Most that compressed data may grow by, once it is large: deflate itself ends at 1032, pictures and labels stay below.
const MAX_RATIO: u64 = 200;
/// Compressed data may always grow to this many bytes: small files of zeros are harmless.
const HARMLESS: u64 = 64 << 20;

/// Opens a regular file for reading; its length in bytes comes along.
///
/// A pipe, a device or a folder is refused before anything is read: a pipe would wait for ever, a device never ends.
///
/// # Errors
/// [`DataError::Io`] when the file cannot be opened, [`DataError::Field`] when it is no regular file.
pub fn open_regular(path: &Path) -> Result<(File, u64), DataError> {
    // Looked at first: opening a pipe waits for its writer already.
    let metadata = fs::metadata(path).map_err(DataError::io(path))?;
    refuse_other(path, metadata.file_type())?;
    let file = File::open(path).map_err(DataError::io(path))?;
    let metadata = file.metadata().map_err(DataError::io(path))?;
    refuse_other(path, metadata.file_type())?;
    Ok((file, metadata.len()))
}

/// The whole of a regular file of at most `limit` bytes; one that grows meanwhile is cut there.
pub(crate) fn read_whole(path: &Path, limit: u64) -> Result<Vec<u8>, DataError> {
    let (file, size) = open_regular(path)?;
    DataError::within(path, "file size in bytes", limit, size)?;
    let mut bytes = Vec::with_capacity(size as usize);
    let read = file.take(limit).read_to_end(&mut bytes);
    read.map(|_| bytes).map_err(DataError::io(path))
}

/// As [`read_whole`], for a text.
pub(crate) fn read_text(path: &Path, limit: u64) -> Result<String, DataError> {
    let text = String::from_utf8(read_whole(path, limit)?);
    text.map_err(|error| DataError::io(path)(Error::new(ErrorKind::InvalidData, error)))
}

/// `size` bytes from a place of a file on, by any number of threads at once; `path` is its name in messages.
pub(crate) fn read_at(
    file: &File,
    path: &Path,
    offset: u64,
    size: u64,
) -> Result<Vec<u8>, DataError> {
    let mut bytes = vec![0; size as usize];
    let read = file.read_exact_at(&mut bytes, offset);
    read.map(|()| bytes).map_err(DataError::io(path))
}

/// Refuses what is no regular file.
pub(crate) fn refuse_other(path: &Path, kind: FileType) -> Result<(), DataError> {
    if kind.is_file() {
        return Ok(());
    }
    DataError::refuse(path, 0, "kind of file", "a regular file", name_of(kind))
}

fn name_of(kind: FileType) -> &'static str {
    if kind.is_dir() {
        "a folder"
    } else if kind.is_fifo() {
        "a named pipe"
    } else if kind.is_socket() {
        "a socket"
    } else if kind.is_char_device() || kind.is_block_device() {
        "a device"
    } else {
        "something else"
    }
}

/// Refuses compressed data of `stored` bytes that promise to become `size` bytes, if that is far more than data grow.
pub(crate) fn refuse_bomb(path: &Path, stored: u64, size: u128) -> Result<(), DataError> {
    refuse_growth(path, stored, size, HARMLESS)
}

/// As [`refuse_bomb`], where so many bytes are harmless.
pub(crate) fn refuse_growth(
    path: &Path,
    stored: u64,
    size: impl Into<u128>,
    harmless: u64,
) -> Result<(), DataError> {
    let limit = stored.saturating_mul(MAX_RATIO).max(harmless);
    DataError::within(path, "inflated size in bytes", limit, size)
}
