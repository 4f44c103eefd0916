//! A libtorch that is there already: a folder with `lib` and `include`, or the `torch` folder of a Python installation.

use super::install;
use super::pins::{Device, VERSION};
use super::platform::Platform;
use anyhow::{Context, Result, bail, ensure};
use std::fs;
use std::path::Path;

/// Fails, saying what is wrong, unless the folder can be built and run against on this device.
pub(crate) fn check(folder: &Path, device: Option<Device>) -> Result<()> {
    ensure!(folder.is_dir(), "{} is no folder", folder.display());
    let header = "include/torch/csrc/api/include/torch/torch.h";
    ensure!(
        folder.join(header).is_file(),
        "{} has no {header}",
        folder.display()
    );
    install::require_libraries(folder, Platform::host().unwrap_or(Platform::LinuxX86_64))?;
    let version = version(folder)?;
    // 2.11.0+cpu and 2.11.0+cu130 are builds of 2.11.0.
    if version.split('+').next() != Some(VERSION) {
        bail!(
            "{} is version {version}, wanted {VERSION}",
            folder.display()
        );
    }
    if device == Some(Device::Cuda) {
        ensure!(
            folder.join("lib/libtorch_cuda.so").is_file(),
            "{} is built without CUDA",
            folder.display()
        );
    }
    Ok(())
}

/// The version a libtorch (`build-version`) or a Python package (`version.py`) states.
fn version(folder: &Path) -> Result<String> {
    if let Ok(text) = fs::read_to_string(folder.join("build-version")) {
        return Ok(text.trim().to_owned());
    }
    let text = fs::read_to_string(folder.join("version.py")).with_context(|| {
        format!(
            "{} has neither build-version nor version.py",
            folder.display()
        )
    })?;
    let mut lines = text.lines().filter(|line| line.starts_with("__version__"));
    let stated = lines.find_map(|line| line.split(['\'', '"']).nth(1));
    stated
        .map(str::to_owned)
        .with_context(|| format!("{}/version.py states no __version__", folder.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::libtorch::fake;

    #[test]
    fn builds_of_the_version_are_accepted() {
        for version in ["2.11.0", "2.11.0+cpu\n", "2.11.0+cu130"] {
            let folder = fake::installation();
            fs::write(folder.path().join("build-version"), version).unwrap();
            check(folder.path(), None).unwrap();
        }
    }

    #[test]
    fn a_python_package_states_its_version_in_a_module() {
        for line in [
            "__version__ = '2.11.0+cu130'",
            "__version__: str = \"2.11.0\"",
        ] {
            let folder = fake::installation();
            fs::remove_file(folder.path().join("build-version")).unwrap();
            let text = format!("from typing import Optional\n\n{line}\ndebug = False\n");
            fs::write(folder.path().join("version.py"), text).unwrap();
            check(folder.path(), None).unwrap();
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        let said = |spoil: &dyn Fn(&Path), device| {
            let folder = fake::installation();
            spoil(folder.path());
            check(folder.path(), device).unwrap_err().to_string()
        };
        let remove = |name: &'static str| move |f: &Path| fs::remove_file(f.join(name)).unwrap();
        assert!(said(&remove("lib/libtorch_cpu.so"), None).contains("libtorch_cpu.so"));
        assert!(said(&remove("build-version"), None).contains("neither build-version"));
        let header = "include/torch/csrc/api/include/torch/torch.h";
        assert!(said(&remove(header), None).contains("torch.h"));
        assert!(said(&|_| {}, Some(Device::Cuda)).contains("without CUDA"));
        for version in ["2.10.0", "2.11.01", ""] {
            let old = |f: &Path| fs::write(f.join("build-version"), version).unwrap();
            assert!(said(&old, None).contains("wanted 2.11.0"), "{version}");
        }
    }
}
