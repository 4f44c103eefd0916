//! Files that are kept: whole or not at all.

use std::fs;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Error, Result};
use meanflow_files::{Durability, replace};

/// Writes a text, in the place of what was there; a reader at any time finds the old one or the new one.
///
/// # Errors
/// With the path; what was there is then as it was.
pub(crate) fn write(path: &Path, text: impl AsRef<[u8]>) -> Result<()> {
    let written = replace(path, Durability::Synced, Error::from, |file| {
        Ok(file.write_all(text.as_ref())?)
    });
    written.with_context(|| format!("cannot write {}", path.display()))
}

/// Makes a folder and those around it, where they are missing.
pub(crate) fn make_folder(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))
}

/// Copies a file.
pub(crate) fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to).with_context(|| format!("cannot copy {}", from.display()))?;
    Ok(())
}

/// The bytes of all files in a folder and the folders in it.
pub(crate) fn size(folder: &Path) -> Result<u64> {
    let mut sum = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let about = entry.metadata()?;
        sum += if about.is_dir() {
            size(&entry.path())?
        } else {
            about.len()
        };
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_and_a_refusal_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("report.md");
        for text in ["old", "new"] {
            write(&path, text).unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        let error = write(&path.join("inside.md"), "x").unwrap_err().to_string();
        assert!(error.contains("inside.md"), "{error}");
    }
}
