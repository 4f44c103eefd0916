//! Durable files and folders: written, synced, renamed, and the folder synced too.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::TrainError;

/// Waits until the entries of a folder are on the disk: after this a rename in it survives a power loss.
pub(crate) fn sync_folder(path: &Path) -> Result<(), TrainError> {
    File::open(path)
        .and_then(|folder| folder.sync_all())
        .map_err(TrainError::io("sync", path))
}

/// Creates a folder with its parents.
pub(crate) fn create_folder(path: &Path) -> Result<(), TrainError> {
    fs::create_dir_all(path).map_err(TrainError::io("create the folder", path))
}

/// Removes a folder that may not exist.
pub(crate) fn remove_folder(path: &Path) -> Result<(), TrainError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(TrainError::io("remove", path)(error))
        }
        _ => Ok(()),
    }
}

/// Renames a file or folder.
pub(crate) fn rename(from: &Path, to: &Path) -> Result<(), TrainError> {
    fs::rename(from, to).map_err(TrainError::io("rename", from))
}

/// Names in a folder, sorted; none when it does not exist. Names that are no UTF-8 are not ours and left out.
pub(crate) fn names(folder: &Path) -> Result<Vec<String>, TrainError> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
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
    let mut file = File::open(path).map_err(TrainError::io("read", path))?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    let mut bytes = 0;
    loop {
        let read = file
            .read(&mut buffer)
            .map_err(TrainError::io("read", path))?;
        if read == 0 {
            let digits = hash
                .finalize()
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect();
            return Ok((bytes, digits));
        }
        hash.update(&buffer[..read]);
        bytes += read as u64;
    }
}
