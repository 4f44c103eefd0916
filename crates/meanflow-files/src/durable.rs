//! The changes themselves, each past the layer.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::layer::{Operation, ask};

/// A new file that is being written.
#[derive(Debug)]
pub struct DurableFile {
    file: File,
    path: PathBuf,
    offset: u64,
}

impl DurableFile {
    /// Creates a file, which must not exist.
    ///
    /// # Errors
    /// Those of the operating system.
    pub fn create_new(path: &Path) -> io::Result<Self> {
        ask(|| Operation::CreateFile(path.to_owned()))?;
        let file = OpenOptions::new().write(true).create_new(true).open(path)?;
        Ok(Self {
            file,
            path: path.to_owned(),
            offset: 0,
        })
    }

    /// Waits until all that was written is on the disk.
    ///
    /// # Errors
    /// Those of the operating system.
    pub fn sync(&self) -> io::Result<()> {
        ask(|| Operation::SyncFile(self.path.clone()))?;
        self.file.sync_all()
    }
}

impl Write for DurableFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let most = ask(|| Operation::Write {
            path: self.path.clone(),
            offset: self.offset,
            bytes: bytes.to_owned(),
        })?;
        let written = self.file.write(&bytes[..bytes.len().min(most)])?;
        self.offset += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for DurableFile {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.offset = self.file.seek(to)?;
        Ok(self.offset)
    }
}

/// Waits until the entries of a folder are on the disk: after this a rename in it survives a power cut.
///
/// # Errors
/// Those of the operating system.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    ask(|| Operation::SyncFolder(folder.to_owned()))?;
    File::open(folder)?.sync_all()
}

/// Creates a folder with its parents, where it does not exist.
///
/// # Errors
/// Those of the operating system.
pub fn create_folder(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    ask(|| Operation::CreateFolder(folder.to_owned()))?;
    fs::create_dir_all(folder)
}

/// Removes a folder with all that is in it, where it exists.
///
/// # Errors
/// Those of the operating system.
pub fn remove_folder(folder: &Path) -> io::Result<()> {
    if !folder.exists() {
        return Ok(());
    }
    ask(|| Operation::RemoveFolder(folder.to_owned()))?;
    present(fs::remove_dir_all(folder))
}

/// Removes a file, where it exists.
///
/// # Errors
/// Those of the operating system.
pub fn remove_file(path: &Path) -> io::Result<()> {
    ask(|| Operation::RemoveFile(path.to_owned()))?;
    present(fs::remove_file(path))
}

/// Gives a file or folder another name; a file that has it is replaced.
///
/// # Errors
/// Those of the operating system.
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    ask(|| Operation::Rename {
        from: from.to_owned(),
        to: to.to_owned(),
    })?;
    fs::rename(from, to)
}

/// A removal of what is not there is none.
fn present(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// The folder that a path is in.
pub(crate) fn folder_of(path: &Path) -> &Path {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    folder.unwrap_or(Path::new("."))
}
