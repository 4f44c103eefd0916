//! Is a file the one that is meant? Length first, then SHA-256.

use super::pins::Pin;
use crate::{files, progress};
use anyhow::{Context, Result};
use meanflow_files::sha256_of_reader;
use std::fs::File;
use std::path::Path;

/// Why a file is not the pinned one; `None`: it is.
pub(crate) fn mismatch(path: &Path, pin: &Pin) -> Result<Option<String>> {
    let bytes = path
        .metadata()
        .with_context(|| format!("cannot read {}", path.display()))?
        .len();
    if bytes != pin.bytes {
        return Ok(Some(format!("expected {} bytes, got {bytes}", pin.bytes)));
    }
    let sha256 = sha256(path)?;
    Ok((sha256 != pin.sha256).then(|| format!("expected sha256 {}, got {sha256}", pin.sha256)))
}

/// The SHA-256 of a file, in lower-case hexadecimal digits.
pub(crate) fn sha256(path: &Path) -> Result<String> {
    let context = || format!("cannot read {}", path.display());
    let file = File::open(path).with_context(context)?;
    let total = file.metadata().with_context(context)?.len();
    let progress = progress::bytes(&format!("checking {}", files::name(path)), total);
    let (_, hash) = sha256_of_reader(progress.wrap_read(file)).with_context(context)?;
    Ok(hash)
}

#[cfg(test)]
mod tests {
    use super::super::fake;
    use super::*;
    use std::fs;

    #[test]
    fn the_reason_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let pin = fake::pin("file", b"abc");
        let said = |content: &str| {
            fs::write(&path, content).unwrap();
            mismatch(&path, &pin).unwrap()
        };
        assert_eq!(said("abc"), None);
        assert_eq!(said("abcd").unwrap(), "expected 3 bytes, got 4");
        assert!(said("abd").unwrap().starts_with("expected sha256 ba78"));
        let error = mismatch(Path::new("/nowhere/at/all"), &pin).unwrap_err();
        assert!(error.to_string().contains("/nowhere/at/all"));
    }
}
