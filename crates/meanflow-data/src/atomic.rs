//! Files that appear whole or not at all, with errors of this crate.

use std::io::{BufWriter, Write};
use std::path::Path;

use meanflow_files::{Durability, DurableFile, replace};

use crate::DataError;

/// Writes `path` through `write`: into a temporary file beside it, synced, then renamed over it.
///
/// A reader sees the old file or the new one, never a part; an error (of `write` too) leaves the old file as it
/// was and no temporary file behind. A killed process can leave the temporary file, whose name starts with a dot.
/// What this wrote survives a power cut too.
///
/// # Errors
/// [`DataError::Write`] with `path`, or whatever `write` returns.
pub fn write_atomically<E: From<DataError>>(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<DurableFile>) -> Result<(), E>,
) -> Result<(), E> {
    let failed = |error| DataError::write(path)(error).into();
    replace(path, Durability::Synced, failed, write)
}

/// Writes `bytes` to `path`, whole or not at all; see [`write_atomically`].
///
/// # Errors
/// [`DataError::Write`] with `path`.
pub fn write_bytes(path: &Path, bytes: &[u8]) -> Result<(), DataError> {
    write_atomically(path, |file| {
        file.write_all(bytes).map_err(DataError::write(path))
    })
}

/// As [`write_bytes`], but a power cut soon after can take the file back: for many files that can be made again.
pub(crate) fn write_unsynced(path: &Path, bytes: &[u8]) -> Result<(), DataError> {
    let failed = |error| DataError::write(path)(error);
    replace(path, Durability::Unsynced, failed, |file| {
        file.write_all(bytes).map_err(DataError::write(path))
    })
}
