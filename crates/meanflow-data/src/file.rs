//! Opening what a user names: regular files only, and never more memory than a file can honestly ask for.

use std::fs::{self, File, FileType};
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

/// Refuses what is no regular file.
pub(crate) fn refuse_other(path: &Path, kind: FileType) -> Result<(), DataError> {
    if kind.is_file() {
        return Ok(());
    }
    let got = name_of(kind);
    let (field, expected) = ("kind of file", "a regular file");
    Err(DataError::field(path, 0, field, expected, got))
}

#[cfg(unix)]
fn name_of(kind: FileType) -> &'static str {
    use std::os::unix::fs::FileTypeExt;
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

#[cfg(not(unix))]
fn name_of(kind: FileType) -> &'static str {
    if kind.is_dir() {
        "a folder"
    } else {
        "something else"
    }
}

/// Refuses compressed data of `stored` bytes that promise to become `size` bytes, if that is far more than data grow.
pub(crate) fn refuse_bomb(path: &Path, stored: u64, size: u128) -> Result<(), DataError> {
    let limit = stored.saturating_mul(MAX_RATIO).max(HARMLESS);
    if size <= u128::from(limit) {
        return Ok(());
    }
    Err(DataError::Limit {
        file: path.to_owned(),
        what: "inflated size in bytes",
        limit,
        got: size,
    })
}
