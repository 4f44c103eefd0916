//! Downloads, kept between runs and never trusted: each is checked again whenever it is used.

use super::pins::Pin;
use super::verify;
use crate::files;
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};

/// Puts the pinned file into a folder, under its own name.
pub(crate) type Fetch<'a> = dyn Fn(&Pin, &Path) -> Result<()> + 'a;

/// A checked copy of the pinned file: the kept one where it is still right, else a fresh one.
///
/// # Errors
/// The fetch failed, or brought something else than the pinned file: nothing is kept then.
pub(crate) fn obtain(cache: &Path, pin: &Pin, fetch: &Fetch<'_>) -> Result<PathBuf> {
    let kept = cache.join(&pin.file);
    if is_kept(cache, pin)? {
        match verify::mismatch(&kept, pin)? {
            None => return Ok(kept),
            Some(reason) => {
                eprintln!("{}: {reason}; fetching it again", kept.display());
                fs::remove_file(&kept)?;
            }
        }
    }
    let arrival = cache.join(format!("{PARTIAL}{}", std::process::id()));
    files::make_folder(&arrival)?;
    let outcome = fetch_checked(&arrival, pin, fetch)
        .and_then(|fresh| fs::rename(fresh, &kept).context("cannot keep the download"));
    fs::remove_dir_all(&arrival)?;
    outcome.map(|()| kept)
}

/// Whether a file of that name and length is kept already (its content is checked when it is used).
pub(crate) fn is_kept(cache: &Path, pin: &Pin) -> Result<bool> {
    cache
        .join(&pin.file)
        .try_exists()
        .with_context(|| format!("cannot read {}", cache.display()))
}

/// Removes what interrupted downloads left. The caller holds the cache's lock.
pub(crate) fn sweep(cache: &Path) -> Result<()> {
    super::install::remove_prefixed(cache, PARTIAL)
}

/// Start of the name of a folder that a download arrives in.
const PARTIAL: &str = "partial-";

fn fetch_checked(arrival: &Path, pin: &Pin, fetch: &Fetch<'_>) -> Result<PathBuf> {
    fetch(pin, arrival)?;
    let fresh = arrival.join(&pin.file);
    if !fresh.is_file() {
        bail!("the download brought no file named {}", pin.file);
    }
    if let Some(reason) = verify::mismatch(&fresh, pin)? {
        bail!(
            "the download of {} is not the pinned file ({reason}): refused and deleted",
            pin.file
        );
    }
    Ok(fresh)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::libtorch::fake;
    use std::cell::Cell;

    /// Fetches these bytes, counting.
    fn fetcher<'a>(bytes: &'a [u8], count: &'a Cell<u32>) -> impl Fn(&Pin, &Path) -> Result<()> {
        move |pin, folder| {
            count.set(count.get() + 1);
            Ok(fs::write(folder.join(&pin.file), bytes)?)
        }
    }

    #[test]
    fn a_kept_file_is_reused_only_while_it_is_right() {
        let folder = tempfile::tempdir().unwrap();
        let content = b"the very file".as_slice();
        let (pin, count) = (fake::pin("a.whl", content), Cell::new(0));
        let fetch = fetcher(content, &count);
        let path = obtain(folder.path(), &pin, &fetch).unwrap();
        obtain(folder.path(), &pin, &fetch).unwrap();
        assert_eq!(count.get(), 1);
        // One flipped bit; one byte short; one byte long.
        for damaged in [
            b"the very fild".as_slice(),
            b"the very fil",
            b"the very file!",
        ] {
            let before = count.get();
            fs::write(&path, damaged).unwrap();
            obtain(folder.path(), &pin, &fetch).unwrap();
            assert_eq!(count.get(), before + 1);
            assert_eq!(fs::read(&path).unwrap(), content);
        }
    }

    #[test]
    fn a_wrong_download_is_refused_and_not_kept() {
        let folder = tempfile::tempdir().unwrap();
        let (pin, count) = (fake::pin("a.whl", b"right"), Cell::new(0));
        for wrong in [b"wrong".as_slice(), b"righ", b"right and more"] {
            let error = obtain(folder.path(), &pin, &fetcher(wrong, &count)).unwrap_err();
            assert!(error.to_string().contains("refused"), "{error}");
            assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        }
        assert!(obtain(folder.path(), &pin, &|_, _| Ok(())).is_err());
    }
}
