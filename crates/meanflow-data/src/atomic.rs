//! Files that appear whole or not at all.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};

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
    write: impl FnOnce(&mut BufWriter<File>) -> Result<(), E>,
) -> Result<(), E> {
    replace(path, true, write)
}

/// As [`write_bytes`], but a power cut soon after can take the file back: for many files that can be made again.
pub(crate) fn write_unsynced(path: &Path, bytes: &[u8]) -> Result<(), DataError> {
    replace(path, false, |file| {
        file.write_all(bytes).map_err(DataError::write(path))
    })
}

fn replace<E: From<DataError>>(
    path: &Path,
    sync: bool,
    write: impl FnOnce(&mut BufWriter<File>) -> Result<(), E>,
) -> Result<(), E> {
    let temporary = temporary_beside(path)?;
    let result = write_whole(&temporary, path, sync, write);
    if result.is_err() {
        // The first error is the one worth reporting.
        let _ = fs::remove_file(&temporary);
    }
    result
}

/// The steps that may fail.
fn write_whole<E: From<DataError>>(
    temporary: &Path,
    path: &Path,
    sync: bool,
    write: impl FnOnce(&mut BufWriter<File>) -> Result<(), E>,
) -> Result<(), E> {
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(temporary);
    let mut writer = BufWriter::new(file.map_err(DataError::write(path))?);
    write(&mut writer)?;
    let file = writer
        .into_inner()
        .map_err(|error| DataError::write(path)(error.into_error()))?;
    if sync {
        file.sync_all().map_err(DataError::write(path))?;
    }
    fs::rename(temporary, path).map_err(DataError::write(path))?;
    if sync {
        sync_folder(path)?;
    }
    Ok(())
}

/// Makes the rename itself durable, where folders can be opened.
fn sync_folder(path: &Path) -> Result<(), DataError> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    let opened = if cfg!(unix) {
        File::open(folder)
    } else {
        return Ok(());
    };
    opened
        .and_then(|folder| folder.sync_all())
        .map_err(DataError::write(path))
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

/// A name in the folder of `path` that no other write, of this process or another, uses.
fn temporary_beside(path: &Path) -> Result<PathBuf, DataError> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let Some(name) = path.file_name() else {
        return Err(DataError::write(path)(io::ErrorKind::IsADirectory.into()));
    };
    let mut hidden = OsString::from(".");
    hidden.push(name);
    hidden.push(format!(
        ".{}-{}.tmp",
        process::id(),
        COUNT.fetch_add(1, Ordering::Relaxed)
    ));
    Ok(path.with_file_name(hidden))
}
