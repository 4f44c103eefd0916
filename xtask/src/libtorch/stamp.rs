//! The stamp of a finished installation: written last, it lists every file with its length.

use super::pins::{Device, VERSION};
use crate::files;
use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

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
    /// Every file but this one: path and bytes, in order.
    pub files: Vec<(String, u64)>,
}

/// Stamps a folder whose files are all in place.
pub(crate) fn write(folder: &Path, device: Device, source: &str) -> Result<()> {
    let entry = |path: PathBuf| {
        let name = path.strip_prefix(folder)?.to_string_lossy().into_owned();
        Ok((name, path.metadata()?.len()))
    };
    let found = files::below(folder, |_| true)?.into_iter().map(entry);
    let files = found.collect::<Result<_>>()?;
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
        let said = |spoil: &dyn Fn(&Path)| {
            let folder = installation();
            spoil(folder.path());
            check(folder.path()).unwrap_err().to_string()
        };
        let text = said(&|folder| fs::write(folder.join("lib/libc10.so"), b"lib").unwrap());
        assert_eq!(text, "lib/libc10.so: expected 7 bytes, got 3");
        let text = said(&|folder| fs::remove_file(folder.join("build-version")).unwrap());
        assert!(text.starts_with("build-version: "), "{text}");
        let text = said(&|folder| fs::remove_file(folder.join(FILE)).unwrap());
        assert!(text.contains("never finished"), "{text}");
        let text = said(&|folder| fs::write(folder.join(FILE), b"{\"version\":").unwrap());
        assert!(text.contains("damaged"), "{text}");
    }
}
