//! Is there room on the disk? Asked before anything is fetched.

use anyhow::{Result, ensure};
use meanflow_files::free_space;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Fails unless each folder's disk has the bytes free; needs on one disk add up. A disk that does not say passes.
pub(crate) fn require(needs: &[(&Path, u64)]) -> Result<()> {
    for (folder, _) in needs {
        let disk = disk(folder);
        let same = needs.iter().filter(|(other, _)| self::disk(other) == disk);
        let needed: u64 = same.map(|(_, bytes)| bytes).sum();
        let Some(free) = free(folder) else {
            continue;
        };
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

/// The folder, or the nearest above it that is there.
fn existing(folder: &Path) -> Option<&Path> {
    folder.ancestors().find(|path| path.exists())
}

/// The number of the disk that a folder is on.
fn disk(folder: &Path) -> Option<u64> {
    Some(existing(folder)?.metadata().ok()?.dev())
}

fn free(folder: &Path) -> Option<u64> {
    free_space(existing(folder)?)
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
