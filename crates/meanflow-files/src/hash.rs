//! SHA-256 in lower-case hexadecimal digits.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use sha2::Digest;

/// The hash of bytes that come one after the other.
#[derive(Clone, Debug, Default)]
pub struct Sha256(sha2::Sha256);

impl Sha256 {
    /// The hash of no bytes yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next bytes.
    pub fn update(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.update(bytes);
    }

    /// The 64 digits of the hash of all bytes.
    pub fn finish(self) -> String {
        let digest = self.0.finalize();
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// The hash of some bytes.
///
/// ```
/// let digits = meanflow_files::sha256(b"abc");
/// assert!(digits.starts_with("ba7816bf") && digits.len() == 64);
/// ```
pub fn sha256(bytes: &[u8]) -> String {
    let mut hash = Sha256::new();
    hash.update(bytes);
    hash.finish()
}

/// Length and hash of a file, which is read piece by piece.
///
/// # Errors
/// If it cannot be read.
pub fn sha256_of_file(path: &Path) -> io::Result<(u64, String)> {
    sha256_of_reader(File::open(path)?)
}

/// Length and hash of all that a reader gives, piece by piece.
///
/// # Errors
/// Those of the reader.
pub fn sha256_of_reader(mut reader: impl Read) -> io::Result<(u64, String)> {
    let (mut hash, mut length, mut buffer) = (Sha256::new(), 0, vec![0; 1 << 16]);
    loop {
        let count = reader.read(&mut buffer)?;
        if count == 0 {
            return Ok((length, hash.finish()));
        }
        hash.update(&buffer[..count]);
        length += count as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the standard (FIPS 180-4).
    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn pieces_and_files_have_the_hash_of_the_whole() {
        let mut pieces = Sha256::new();
        pieces.update("a");
        pieces.update("bc");
        assert_eq!(pieces.finish(), ABC);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("abc");
        std::fs::write(&path, "abc").unwrap();
        assert_eq!(sha256_of_file(&path).unwrap(), (3, ABC.to_owned()));
        // Longer than the buffer.
        let long = vec![7; 100_000];
        std::fs::write(&path, &long).unwrap();
        assert_eq!(sha256_of_file(&path).unwrap(), (100_000, sha256(&long)));
    }
}
