//! A file replaced as a whole.

use std::ffi::OsString;
use std::io::{self, BufWriter, ErrorKind};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::durable::{DurableFile, folder_of, remove_file, rename, sync_folder};
use crate::leftovers::remove_leftovers_of;

/// Whether a file that was replaced is on the disk when that is done.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Durability {
    /// It survives a power cut from then on.
    Synced,
    /// A power cut soon after can take it back: for many files that can be made again.
    Unsynced,
}

/// Writes the file `path` through `write`: into a hidden file beside it, then renamed over it.
///
/// A reader sees the old file or the new one, never a part; an error (of `write` too) leaves the old file as it was and no
/// hidden file behind. A killed process can leave the hidden file, which the next synced write of the same file removes, or
/// [`remove_leftovers`](crate::remove_leftovers).
///
/// # Errors
/// What `failed` makes of those of the operating system, and whatever `write` returns.
pub fn replace<E>(
    path: &Path,
    durability: Durability,
    failed: impl Fn(io::Error) -> E,
    write: impl FnOnce(&mut BufWriter<DurableFile>) -> Result<(), E>,
) -> Result<(), E> {
    let hidden = beside(path).map_err(&failed)?;
    if durability == Durability::Synced {
        // What a killed process left is in nobody's way: a failure to remove it is none of this write.
        let _ = remove_leftovers_of(path);
    }
    let result = write_whole(&hidden, path, durability, &failed, write);
    if result.is_err() {
        // The first error is the one worth reporting.
        let _ = remove_file(&hidden);
    }
    result
}

/// The steps that may fail.
fn write_whole<E>(
    hidden: &Path,
    path: &Path,
    durability: Durability,
    failed: &impl Fn(io::Error) -> E,
    write: impl FnOnce(&mut BufWriter<DurableFile>) -> Result<(), E>,
) -> Result<(), E> {
    let mut writer = BufWriter::new(DurableFile::create_new(hidden).map_err(failed)?);
    write(&mut writer)?;
    let file = writer
        .into_inner()
        .map_err(|error| failed(error.into_error()))?;
    if durability == Durability::Synced {
        file.sync().map_err(failed)?;
    }
    rename(hidden, path).map_err(failed)?;
    if durability == Durability::Synced {
        sync_folder(folder_of(path)).map_err(failed)?;
    }
    Ok(())
}

/// A name in the folder of `path` that no other write, of this process or another, uses.
fn beside(path: &Path) -> io::Result<PathBuf> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let Some(name) = path.file_name() else {
        return Err(ErrorKind::IsADirectory.into());
    };
    let mut hidden = OsString::from(".");
    hidden.push(name);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    hidden.push(format!(".{}-{count}.tmp", process::id()));
    Ok(path.with_file_name(hidden))
}
