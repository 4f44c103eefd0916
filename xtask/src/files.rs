//! Files and folders; what is kept is written whole or not at all.

use std::fs;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Error, Result};
use meanflow_files::{Durability, replace};

use crate::command;

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

/// Copies a folder with all that is in it, as what is not there yet.
pub(crate) fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    command::succeed(Command::new("cp").arg("-a").args([from, to]))
}

/// The text of a file.
pub(crate) fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

/// What is in a folder, in order.
pub(crate) fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let context = || format!("cannot list {}", folder.display());
    let entries = fs::read_dir(folder).with_context(context)?;
    let paths = entries.map(|entry| Ok(entry?.path()));
    let mut paths: Vec<_> = paths.collect::<Result<_>>().with_context(context)?;
    paths.sort();
    Ok(paths)
}

/// The files in a folder and in those folders in it whose names say that they are to be entered, in order.
pub(crate) fn below(folder: &Path, enter: fn(&str) -> bool) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in entries(folder)? {
        // A link is not entered.
        if !path.is_dir() || path.is_symlink() {
            files.push(path);
        } else if enter(&name(&path)) {
            files.extend(below(&path, enter)?);
        }
    }
    Ok(files)
}

/// The last part of a path.
pub(crate) fn name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

/// Whether a file's name has this ending.
pub(crate) fn ends(path: &Path, ending: &str) -> bool {
    path.extension().is_some_and(|found| found == ending)
}

/// Removes a file or a folder with all that is in it, where there is one.
pub(crate) fn remove(path: &Path) -> Result<()> {
    let removed = match path.is_dir() {
        true => fs::remove_dir_all(path),
        false => fs::remove_file(path),
    };
    match removed {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other.with_context(|| format!("cannot remove {}", path.display())),
    }
}

/// The bytes of all files in a folder and the folders in it.
pub(crate) fn size(folder: &Path) -> Result<u64> {
    let sizes = below(folder, |_| true)?;
    let sizes = sizes.iter().map(|file| Ok(file.symlink_metadata()?.len()));
    sizes.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_listed_in_order_and_a_refusal_names_them() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for name in ["b/c.md", "b/a.md", ".git/x", "a"] {
            make_folder(path(name).parent().unwrap()).unwrap();
            write(&path(name), "text").unwrap();
        }
        let found = below(folder.path(), |name| !name.starts_with('.')).unwrap();
        assert_eq!(found, ["a", "b/a.md", "b/c.md"].map(path));
        assert_eq!(size(folder.path()).unwrap(), 4 * 4);
        for _ in 0..2 {
            remove(&path("b")).unwrap();
        }
        for error in [write(&path("a/in"), ""), read(&path("b")).map(drop)] {
            let text = error.unwrap_err().to_string();
            assert!(
                text.contains(&folder.path().display().to_string()),
                "{text}"
            );
        }
    }
}
