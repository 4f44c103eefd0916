//! The stamp of a finished installation: written last, it lists every file with its length.

use super::pins::{Device, VERSION};
use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

/// The stamp's name in the installation.
const FILE: &str = "installed.json";

/// What was installed.
#[derive(Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Stamp {
    /// The version of libtorch.
    pub version: String,
    /// What it computes on.
    pub device: Device,
    /// Where it came from: `wheel` or `archive`.
    pub source: String,
    /// Every file but this one: path and bytes, sorted.
    pub files: Vec<(String, u64)>,
}

/// Stamps a folder whose files are all in place.
pub(crate) fn write(folder: &Path, device: Device, source: &str) -> Result<()> {
    let mut files = Vec::new();
    collect(folder, "", &mut files)?;
    files.sort();
    let stamp = Stamp {
        version: VERSION.to_owned(),
        device,
        source: source.to_owned(),
        files,
    };
    let mut file = File::create_new(folder.join(FILE)).context("cannot write the stamp")?;
    file.write_all(&serde_json::to_vec(&stamp)?)?;
    file.sync_all().context("cannot write the stamp")
}

/// Reads a folder's stamp and looks at every file's length.
///
/// # Errors
/// Says what is wrong: no stamp (an interrupted installation), another version, a file that is missing or cut short.
pub(crate) fn check(folder: &Path) -> Result<Stamp> {
    let Ok(text) = fs::read_to_string(folder.join(FILE)) else {
        bail!("it was never finished: it has no {FILE}");
    };
    let stamp: Stamp = serde_json::from_str(&text).context("its stamp is damaged")?;
    if stamp.version != VERSION {
        bail!("it is version {}, wanted {VERSION}", stamp.version);
    }
    for (name, bytes) in &stamp.files {
        match folder.join(name).metadata() {
            Ok(data) if data.len() == *bytes => {}
            Ok(data) => bail!("{name}: expected {bytes} bytes, got {}", data.len()),
            Err(error) => bail!("{name}: {error}"),
        }
    }
    Ok(stamp)
}

/// All files below a folder, with their lengths.
fn collect(folder: &Path, prefix: &str, files: &mut Vec<(String, u64)>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        let data = entry.metadata()?;
        if data.is_dir() {
            collect(&entry.path(), &format!("{name}/"), files)?;
        } else {
            files.push((name, data.len()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn installation() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("lib")).unwrap();
        fs::write(folder.path().join("lib/libc10.so"), b"library").unwrap();
        fs::write(folder.path().join("build-version"), VERSION).unwrap();
        write(folder.path(), Device::Cpu, "wheel").unwrap();
        folder
    }

    #[test]
    fn an_untouched_installation_is_complete() {
        let folder = installation();
        let stamp = check(folder.path()).unwrap();
        let names: Vec<&str> = stamp.files.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["build-version", "lib/libc10.so"]);
    }

    #[test]
    fn every_damage_is_named() {
        let cut = installation();
        fs::write(cut.path().join("lib/libc10.so"), b"lib").unwrap();
        let text = check(cut.path()).unwrap_err().to_string();
        assert_eq!(text, "lib/libc10.so: expected 7 bytes, got 3");

        let gone = installation();
        fs::remove_file(gone.path().join("build-version")).unwrap();
        assert!(
            check(gone.path())
                .unwrap_err()
                .to_string()
                .starts_with("build-version: ")
        );

        let unfinished = installation();
        fs::remove_file(unfinished.path().join(FILE)).unwrap();
        assert!(
            check(unfinished.path())
                .unwrap_err()
                .to_string()
                .contains("never finished")
        );

        let torn = installation();
        fs::write(torn.path().join(FILE), b"{\"version\":").unwrap();
        assert!(
            check(torn.path())
                .unwrap_err()
                .to_string()
                .contains("damaged")
        );
    }
}
