//! libtorch out of the PyTorch wheel, fetched by the user's own pip (its index, proxy and certificates apply).

use super::pins::{Device, Pin, VERSION};
use super::platform::Platform;
use super::{cache, install, layout, unpack};
use crate::command;
use anyhow::{Context, Result, bail, ensure};
use std::fs;
use std::path::Path;
use std::process::Command;

/// Unpacks every wheel of the table into `folder`.
pub(crate) fn build(
    folder: &Path,
    (platform, device): (Platform, Device),
    pins: &[Pin],
    downloads: &Path,
    fetch: &cache::Fetch<'_>,
) -> Result<()> {
    for pin in pins {
        let wheel = cache::obtain(downloads, pin, fetch)?;
        let written = unpack::unpack(&wheel, folder, &|name| {
            layout::from_wheel(platform, device, name)
        })?;
        ensure!(written > 0, "{} holds nothing of libtorch", pin.file);
    }
    if device == Device::Cpu && platform != Platform::MacosArm64 {
        fs::write(folder.join("lib/libtorch.so"), layout::CPU_LIBTORCH)?;
    }
    fs::write(folder.join("build-version"), VERSION)?;
    install::require_libraries(folder, platform)
}

/// Fetches a wheel with pip into `folder`.
pub(crate) fn pip(platform: Platform, pin: &Pin, folder: &Path) -> Result<()> {
    let python = python()?;
    eprintln!("fetching {} ({} MB)", pin.file, pin.bytes / 1_000_000);
    // Hashes stand in files of requirements only.
    let required = folder.join("requirements.txt");
    let line = format!("{} --hash=sha256:{}\n", pin.requirement(), pin.sha256);
    fs::write(&required, line).with_context(|| format!("cannot write {}", required.display()))?;
    let mut command = Command::new(python);
    command
        .args(["-m", "pip", "download", "--disable-pip-version-check"])
        .args(["--no-deps", "--no-cache-dir", "--only-binary=:all:"])
        .args(["--python-version", "312", "--implementation", "cp"])
        .args(["--abi", "cp312"])
        .args(platform.tags().iter().flat_map(|tag| ["--platform", tag]))
        .arg("--dest")
        .arg(folder)
        .arg("--require-hashes")
        .arg("--requirement")
        .arg(&required)
        // pip gathers a file in the temporary folder first: keep it on the disk whose space was checked.
        .env("TMPDIR", folder);
    command::succeed(&mut command).with_context(|| {
        format!(
            "pip could not fetch {}; without pip: --from archive, or --from PATH",
            pin.requirement()
        )
    })
}

/// A Python that has pip.
fn python() -> Result<&'static str> {
    for python in ["python3", "python"] {
        if command::works(python, &["-m", "pip", "--version"])? {
            return Ok(python);
        }
    }
    for python in ["python3", "python"] {
        if command::works(python, &["--version"])? {
            bail!(
                "{python} has no pip, which fetches libtorch. Install it (Debian, Ubuntu: `apt install python3-pip`; \
                 elsewhere: `{python} -m ensurepip`), or go without: --from archive, or --from PATH to a libtorch {VERSION}"
            );
        }
    }
    bail!(
        "no Python, whose pip fetches libtorch. Install it (Debian, Ubuntu: `apt install python3-pip`), \
         or go without: --from archive, or --from PATH to a libtorch {VERSION}"
    )
}
