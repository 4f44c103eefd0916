//! The manifest of a checkpoint: which files it has, their lengths and their hashes.
//!
//! There is nothing in it that a flipped bit could change unnoticed: its last entry is a hash of the others.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use meanflow_data::write_bytes;
use meanflow_files::sha256;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::TrainError;
use crate::files::{fingerprint, names};

/// Its name inside the checkpoint.
const NAME: &str = "manifest.json";
/// The layout of checkpoints that this version writes. It reads the earlier ones too.
const FORMAT: u64 = 2;
/// The first layout whose manifest has a hash of itself.
const FIRST_SEALED: u64 = 2;
/// The key of the hash of everything else in the manifest.
const SEAL: &str = "manifest_sha256";

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    format_version: u64,
    files: BTreeMap<String, ManifestEntry>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ManifestEntry {
    bytes: u64,
    sha256: String,
}

/// Length and SHA-256 of files by their names.
pub type Fingerprints = BTreeMap<String, (u64, String)>;

/// Writes the manifest of everything that is in the folder. Files whose fingerprints are not known are read.
pub(crate) fn write(folder: &Path, mut known: Fingerprints) -> Result<(), TrainError> {
    let mut files = BTreeMap::new();
    for name in names(folder)? {
        let (bytes, sha256) = match known.remove(&name) {
            Some(known) => known,
            None => fingerprint(&folder.join(&name))?,
        };
        files.insert(name, ManifestEntry { bytes, sha256 });
    }
    let manifest = Manifest {
        format_version: FORMAT,
        files,
    };
    let mut value =
        serde_json::to_value(&manifest).expect("a manifest is made of strings and numbers");
    let seal = seal(&value);
    if let Value::Object(entries) = &mut value {
        entries.insert(SEAL.to_owned(), Value::String(seal));
    }
    Ok(write_bytes(
        &folder.join(NAME),
        format!("{value:#}").as_bytes(),
    )?)
}

fn seal(manifest: &Value) -> String {
    sha256(manifest.to_string().as_bytes())
}

/// Why a folder is not what its manifest says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// It is damaged: the reason, for a person.
    Damaged(String),
    /// It is whole, and of this layout, which a later version writes.
    Newer(u64),
}

impl From<String> for Flaw {
    fn from(reason: String) -> Self {
        Self::Damaged(reason)
    }
}

/// Reads the manifest, which must be as it was written.
fn read(folder: &Path) -> Result<Manifest, Flaw> {
    let text = fs::read_to_string(folder.join(NAME)).map_err(|error| format!("{NAME}: {error}"))?;
    let mut value: Value =
        serde_json::from_str(&text).map_err(|error| format!("{NAME}: {error}"))?;
    let version = value["format_version"].as_u64();
    let version = version.ok_or_else(|| format!("{NAME}: no format_version"))?;
    let recorded = value
        .as_object_mut()
        .and_then(|entries| entries.remove(SEAL));
    if (version >= FIRST_SEALED || recorded.is_some())
        && recorded != Some(Value::String(seal(&value)))
    {
        return Err(Flaw::Damaged(format!(
            "{NAME}: its content does not have the recorded SHA-256"
        )));
    }
    if version > FORMAT {
        return Err(Flaw::Newer(version));
    }
    serde_json::from_value(value).map_err(|error| Flaw::Damaged(format!("{NAME}: {error}")))
}

/// Whether the folder has a manifest.
pub(crate) fn is_in(folder: &Path) -> bool {
    folder.join(NAME).is_file()
}

/// Whether the folder is exactly what its manifest says.
pub(crate) fn verify(folder: &Path) -> Result<(), Flaw> {
    Ok(compare(folder, &read(folder)?)?)
}

fn compare(folder: &Path, manifest: &Manifest) -> Result<(), String> {
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
        write(folder.path(), Fingerprints::new()).unwrap();
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
        assert!(damage(folder.path()).contains("expected 100 bytes, got 99"));
        fs::write(folder.path().join("a.safetensors"), [7; 100]).unwrap();
        fs::write(folder.path().join("b"), "").unwrap();
        assert!(damage(folder.path()).contains("b: not in the manifest"));
    }

    fn damage(folder: &Path) -> String {
        match verify(folder).unwrap_err() {
            Flaw::Damaged(reason) => reason,
            Flaw::Newer(version) => panic!("of version {version}"),
        }
    }

    fn rewrite(folder: &Path, change: impl FnOnce(&mut Value)) {
        let path = folder.join(NAME);
        let mut value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        change(&mut value);
        fs::write(path, value.to_string()).unwrap();
    }

    #[test]
    fn a_later_layout_is_told_from_damage() {
        let folder = folder();
        rewrite(folder.path(), |value| {
            value["format_version"] = 9.into();
            value["of_the_future"] = 1.into();
            value.as_object_mut().unwrap().remove(SEAL);
            value[SEAL] = seal(value).into();
        });
        assert_eq!(verify(folder.path()), Err(Flaw::Newer(9)));
        rewrite(folder.path(), |value| value["format_version"] = 8.into());
        assert!(damage(folder.path()).contains("SHA-256"));
    }

    /// Checkpoints of the first layout stay readable.
    #[test]
    fn a_manifest_without_a_hash_of_itself_is_of_the_first_layout() {
        let folder = folder();
        rewrite(folder.path(), |value| {
            value["format_version"] = 1.into();
            value.as_object_mut().unwrap().remove(SEAL);
        });
        verify(folder.path()).unwrap();
        rewrite(folder.path(), |value| value["format_version"] = 2.into());
        assert!(damage(folder.path()).contains("SHA-256"));
    }
}
