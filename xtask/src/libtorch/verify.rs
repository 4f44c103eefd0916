//! Is a file the one that is meant? Length first, then SHA-256.

use super::pins::Pin;
use crate::progress::Progress;
use anyhow::{Context, Result};
use meanflow_files::Sha256;
use std::fs::File;
use std::io::Read;
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
    let mut file = File::open(path).with_context(context)?;
    let total = file.metadata().with_context(context)?.len();
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let progress = Progress::bytes(&format!("checking {name}"), total);
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let count = file.read(&mut buffer).with_context(context)?;
        if count == 0 {
            break;
        }
        hash.update(&buffer[..count]);
        progress.add(count as u64);
    }
    Ok(hash.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn abc() -> Pin {
        Pin {
            requirement: String::new(),
            file: "abc".to_owned(),
            bytes: 3,
            // FIPS 180-2, appendix B.1.
            sha256: "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad".to_owned(),
        }
    }

    fn verdict(content: &[u8]) -> Option<String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, content).unwrap();
        mismatch(&path, &abc()).unwrap()
    }

    #[test]
    fn only_the_very_bytes_pass() {
        assert_eq!(verdict(b"abc"), None);
        assert_eq!(verdict(b"ab").unwrap(), "expected 3 bytes, got 2");
        assert_eq!(verdict(b"abcd").unwrap(), "expected 3 bytes, got 4");
        assert!(verdict(b"abd").unwrap().starts_with("expected sha256 ba78"));
    }

    #[test]
    fn a_missing_file_is_an_error_that_names_it() {
        let error = mismatch(Path::new("/nowhere/at/all"), &abc()).unwrap_err();
        assert!(error.to_string().contains("/nowhere/at/all"));
    }
}
