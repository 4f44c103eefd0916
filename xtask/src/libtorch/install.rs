//! Putting an installation in place in one go: it is built aside, stamped, then renamed. A lock keeps two runs apart.

use super::pins::Device;
use super::platform::Platform;
use super::stamp;
use crate::files;
use anyhow::{Context, Result, ensure};
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

/// Libraries without which nothing links or runs.
const REQUIRED: [&str; 3] = ["c10", "torch", "torch_cpu"];

/// Waits for the other runs that hold `path`; the lock ends with the value, and with the process.
pub(crate) fn lock(path: &Path) -> Result<File> {
    let context = || format!("cannot lock {}", path.display());
    if let Some(folder) = path.parent() {
        files::make_folder(folder)?;
    }
    let file = File::create(path).with_context(context)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            eprintln!("another run holds {}: waiting for it", path.display());
            file.lock().with_context(context)?;
        }
        Err(TryLockError::Error(error)) => return Err(error).with_context(context),
    }
    Ok(file)
}

/// Builds an installation beside `target`, stamps it, and puts it there instead of whatever was. The caller holds the lock.
pub(crate) fn replace(
    target: &Path,
    device: Device,
    source: &str,
    build: impl FnOnce(&Path) -> Result<()>,
) -> Result<()> {
    sweep(target)?;
    let partial = beside(target, &format!("partial-{}", std::process::id()));
    fs::create_dir(&partial).with_context(|| format!("cannot create {}", partial.display()))?;
    let built = build(&partial).and_then(|()| stamp::write(&partial, device, source));
    if let Err(error) = built {
        fs::remove_dir_all(&partial)?;
        return Err(error);
    }
    set_aside(target)?;
    fs::rename(&partial, target)
        .with_context(|| format!("cannot put {} in place", target.display()))?;
    sweep(target)
}

/// Makes `target` a link to a libtorch elsewhere. The caller holds the lock.
pub(crate) fn link(target: &Path, folder: &Path) -> Result<()> {
    set_aside(target)?;
    std::os::unix::fs::symlink(folder, target)
        .with_context(|| format!("cannot link {} to {}", target.display(), folder.display()))?;
    sweep(target)
}

/// Fails unless the libraries that everything needs are in `lib`.
pub(crate) fn require_libraries(folder: &Path, platform: Platform) -> Result<()> {
    for library in REQUIRED.map(|name| platform.library(name)) {
        ensure!(
            folder.join("lib").join(&library).is_file(),
            "{} has no lib/{library}",
            folder.display()
        );
    }
    Ok(())
}

/// Removes everything in a folder whose name starts so.
pub(crate) fn remove_prefixed(folder: &Path, prefix: &str) -> Result<()> {
    let mut found = files::entries(folder)?;
    found.retain(|path| files::name(path).starts_with(prefix));
    found.iter().try_for_each(|path| files::remove(path))
}

/// Moves what is at `target` out of the way; a link is simply removed.
fn set_aside(target: &Path) -> Result<()> {
    let context = || format!("cannot replace {}", target.display());
    match fs::symlink_metadata(target) {
        Ok(data) if data.is_dir() => {
            let old = beside(target, &format!("old-{}", std::process::id()));
            fs::rename(target, old).with_context(context)
        }
        Ok(_) => fs::remove_file(target).with_context(context),
        Err(_) => Ok(()),
    }
}

/// Removes what interrupted runs left beside `target`.
fn sweep(target: &Path) -> Result<()> {
    let folder = target.parent().unwrap_or(Path::new("."));
    for kind in ["partial-", "old-"] {
        remove_prefixed(folder, &files::name(&beside(target, kind)))?;
    }
    Ok(())
}

/// `.libtorch` → `.libtorch.KIND`.
fn beside(target: &Path, kind: &str) -> PathBuf {
    target.with_file_name(format!("{}.{kind}", files::name(target)))
}
