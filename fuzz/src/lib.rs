//! What the targets share: bytes as a file, or as a text.
//!
//! A parser must refuse or read what it is given; a panic, a time-out and more than two GiB of memory are what is looked for.

use std::fmt::Display;
use std::fs;
use std::path::Path;

/// Gives a parser a file of this name with these bytes, in memory where that is possible.
pub fn file<E: Display>(name: &str, bytes: &[u8], read: impl FnOnce(&Path) -> Result<(), E>) {
    let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
    let folder = folder.expect("a folder to write into");
    let path = folder.path().join(name);
    fs::write(&path, bytes).expect("room for the file");
    said(read(&path));
}

/// Gives a parser these bytes as a text, where they are one.
pub fn text<E: Display>(bytes: &[u8], read: impl FnOnce(&str) -> Result<(), E>) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        said(read(text));
    }
}

/// A refusal says why.
fn said<E: Display>(result: Result<(), E>) {
    if let Err(error) = result {
        assert!(!error.to_string().is_empty(), "a refusal without a reason");
    }
}
