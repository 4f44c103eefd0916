//! Durable files and folders: written, synced, renamed, and the folder synced too.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use meanflow_data::write_atomically;

use crate::TrainError;

/// Waits until the entries of a folder are on the disk: after this a rename in it survives a power loss.
pub(crate) fn sync_folder(path: &Path) -> Result<(), TrainError> {
    meanflow_files::sync_folder(path).map_err(TrainError::io("sync", path))
}

/// Creates a folder with its parents.
pub(crate) fn create_folder(path: &Path) -> Result<(), TrainError> {
    meanflow_files::create_folder(path).map_err(TrainError::io("create the folder", path))
}

/// Removes a folder that may not exist.
pub(crate) fn remove_folder(path: &Path) -> Result<(), TrainError> {
    meanflow_files::remove_folder(path).map_err(TrainError::io("remove", path))
}

/// Renames a file or folder.
pub(crate) fn rename(from: &Path, to: &Path) -> Result<(), TrainError> {
    meanflow_files::rename(from, to).map_err(TrainError::io("rename", from))
}

/// Names in a folder, sorted; none when it does not exist. Names that are no UTF-8 are not ours and left out.
pub(crate) fn names(folder: &Path) -> Result<Vec<String>, TrainError> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(TrainError::io("list", folder))?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(TrainError::io("list", folder))?;
        names.extend(entry.file_name().into_string());
    }
    names.sort_unstable();
    Ok(names)
}

/// Length and SHA-256 (lower-case hexadecimal) of a file.
///
/// # Errors
/// When it cannot be read.
pub fn fingerprint(path: &Path) -> Result<(u64, String), TrainError> {
    meanflow_files::sha256_of_file(path).map_err(TrainError::io("read", path))
}

/// Whether two files have the same bytes, which are read up to their first difference. One that cannot be read is another.
pub(crate) fn are_equal(one: &Path, other: &Path) -> bool {
    let file = |path| fs::metadata(path).ok().filter(fs::Metadata::is_file);
    let files = file(one).zip(file(other));
    files.is_some_and(|(one, other)| one.len() == other.len())
        && compare(one, other).unwrap_or(false)
}

fn compare(one: &Path, other: &Path) -> io::Result<bool> {
    const PIECE: u64 = 1 << 20;
    let (one, other) = (File::open(one)?, File::open(other)?);
    let (mut first, mut second) = (Vec::new(), Vec::new());
    loop {
        first.clear();
        second.clear();
        (&one).take(PIECE).read_to_end(&mut first)?;
        (&other).take(PIECE).read_to_end(&mut second)?;
        if first != second || first.is_empty() {
            return Ok(first == second);
        }
    }
}

/// Makes `to` a copy of `from`, whole or not at all.
pub(crate) fn copy(from: &Path, to: &Path) -> Result<(), TrainError> {
    let mut source = File::open(from).map_err(TrainError::io("read", from))?;
    write_atomically(to, |file| {
        io::copy(&mut source, file)
            .map(drop)
            .map_err(TrainError::io("write", to))
    })
}

/// Removes the hidden files that killed processes left beside the files they were writing.
pub(crate) fn remove_leftovers(folder: &Path) -> Result<(), TrainError> {
    meanflow_files::remove_leftovers(folder)
        .map_err(TrainError::io("remove unfinished files from", folder))
}
