//! The manifest of a checkpoint: which files it has, their lengths and their hashes.
//!
//! There is nothing in it that a flipped bit could change unnoticed: a name then has no file, a hash no match.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use meanflow_data::write_bytes;
use serde::{Deserialize, Serialize};

use crate::TrainError;
use crate::files::{fingerprint, names};

/// Its name inside the checkpoint.
const NAME: &str = "manifest.json";
/// The layout of checkpoints that this version writes and reads.
const FORMAT: u32 = 1;

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    format_version: u32,
    files: BTreeMap<String, Entry>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    bytes: u64,
    sha256: String,
}

/// Writes the manifest of everything that is in the folder.
pub(crate) fn write(folder: &Path) -> Result<(), TrainError> {
    let mut files = BTreeMap::new();
    for name in names(folder)? {
        let (bytes, sha256) = fingerprint(&folder.join(&name))?;
        files.insert(name, Entry { bytes, sha256 });
    }
    let manifest = Manifest {
        format_version: FORMAT,
        files,
    };
    let text =
        serde_json::to_string_pretty(&manifest).expect("a manifest is made of strings and numbers");
    Ok(write_bytes(&folder.join(NAME), text.as_bytes())?)
}

/// Whether the folder is exactly what its manifest says; `Err` is the reason why not, for a person.
pub(crate) fn verify(folder: &Path) -> Result<(), String> {
    let text = fs::read_to_string(folder.join(NAME)).map_err(|error| format!("{NAME}: {error}"))?;
    let manifest: Manifest =
        serde_json::from_str(&text).map_err(|error| format!("{NAME}: {error}"))?;
    if manifest.format_version != FORMAT {
        return Err(format!(
            "format_version: expected {FORMAT}, got {}",
            manifest.format_version
        ));
    }
    let there = names(folder).map_err(|error| error.to_string())?;
    if let Some(extra) = there
        .iter()
        .find(|name| *name != NAME && !manifest.files.contains_key(*name))
    {
        return Err(format!("{extra}: not in the manifest"));
    }
    for (name, expected) in &manifest.files {
        if !there.contains(name) {
            return Err(format!("{name}: missing"));
        }
        let (bytes, sha256) = fingerprint(&folder.join(name)).map_err(|error| error.to_string())?;
        if bytes != expected.bytes {
            return Err(format!(
                "{name}: expected {} bytes, got {bytes}",
                expected.bytes
            ));
        }
        if sha256 != expected.sha256 {
            return Err(format!(
                "{name}: its content does not have the recorded SHA-256"
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a.safetensors"), [7; 100]).unwrap();
        fs::write(folder.path().join("state.json"), "{}").unwrap();
        write(folder.path()).unwrap();
        verify(folder.path()).unwrap();
        folder
    }

    /// The law of the file: whatever bit is flipped in whatever file, the folder is refused.
    #[test]
    fn every_flipped_bit_is_noticed() {
        let folder = folder();
        for name in names(folder.path()).unwrap() {
            let path = folder.path().join(&name);
            let whole = fs::read(&path).unwrap();
            for bit in 0..whole.len() * 8 {
                let mut damaged = whole.clone();
                damaged[bit / 8] ^= 1 << (bit % 8);
                // White space of the JSON text may change into other white space without changing what it says.
                let blank = |byte: u8| b" \n\t\r".contains(&byte);
                if name == NAME && blank(damaged[bit / 8]) && blank(whole[bit / 8]) {
                    continue;
                }
                fs::write(&path, damaged).unwrap();
                assert!(verify(folder.path()).is_err(), "{name} bit {bit}");
            }
            fs::write(&path, whole).unwrap();
        }
        verify(folder.path()).unwrap();
    }

    #[test]
    fn missing_extra_and_truncated_files_are_noticed() {
        for name in ["a.safetensors", "state.json", NAME] {
            let folder = folder();
            fs::remove_file(folder.path().join(name)).unwrap();
            assert!(verify(folder.path()).is_err(), "{name} missing");
        }
        let folder = folder();
        fs::write(folder.path().join("a.safetensors"), [7; 99]).unwrap();
        assert!(
            verify(folder.path())
                .unwrap_err()
                .contains("expected 100 bytes, got 99")
        );
        fs::write(folder.path().join("a.safetensors"), [7; 100]).unwrap();
        fs::write(folder.path().join("b"), "").unwrap();
        assert!(
            verify(folder.path())
                .unwrap_err()
                .contains("b: not in the manifest")
        );
    }
}
