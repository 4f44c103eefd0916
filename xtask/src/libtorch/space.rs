//! Is there room on the disk? Asked before anything is fetched.

use anyhow::{Result, ensure};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

/// Fails unless each folder's disk has the bytes free; needs on one disk add up. A disk that does not say passes.
pub(crate) fn require(needs: &[(&Path, u64)]) -> Result<()> {
    for (folder, _) in needs {
        let disk = disk(folder);
        let same = needs.iter().filter(|(other, _)| self::disk(other) == disk);
        let needed: u64 = same.map(|(_, bytes)| bytes).sum();
        let Some(free) = free(folder) else { continue };
        ensure!(
            free >= needed,
            "not enough disk space at {}: {} MB free, {} MB needed",
            folder.display(),
            free / 1_000_000,
            needed.div_ceil(1_000_000)
        );
    }
    Ok(())
}

/// The number of the disk that a folder, or the nearest folder above it, is on.
fn disk(folder: &Path) -> Option<u64> {
    folder
        .ancestors()
        .find_map(|path| fs::metadata(path).ok())
        .map(|data| data.dev())
}

/// Free bytes for a user, as `df` tells them.
fn free(folder: &Path) -> Option<u64> {
    let existing = folder.ancestors().find(|path| path.exists())?;
    let output = Command::new("df").arg("-Pk").arg(existing).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let kibibytes: u64 = text
        .lines()
        .nth(1)?
        .split_whitespace()
        .nth(3)?
        .parse()
        .ok()?;
    Some(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn little_fits_and_too_much_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("not/yet/there");
        require(&[(folder.path(), 1), (&missing, 1)]).unwrap();
        let error = require(&[(&missing, u64::MAX / 4)])
            .unwrap_err()
            .to_string();
        assert!(error.contains("not enough disk space"), "{error}");
    }

    #[test]
    fn needs_on_one_disk_add_up() {
        let folder = tempfile::tempdir().unwrap();
        let half = free(folder.path()).unwrap() / 4 * 3;
        require(&[(folder.path(), half)]).unwrap();
        assert!(require(&[(folder.path(), half), (folder.path(), half)]).is_err());
    }
}
