//! Where fetched files are: `models--OWNER--NAME/snapshots/COMMIT/FILE` and `refs/REVISION`, as hubs' own programs lay them out.

use std::env;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use meanflow_files::{Durability, create_folder, replace};

use crate::repository::is_commit;
use crate::{HubError, Repository};

/// `$HF_HOME/hub`, else `$XDG_CACHE_HOME/meanflow/hub`, else `~/.cache/meanflow/hub`.
pub(crate) fn root() -> Result<PathBuf, HubError> {
    let absolute = |name| {
        let path = env::var_os(name).map(PathBuf::from);
        path.filter(|path| path.is_absolute())
    };
    if let Some(home) = absolute("HF_HOME") {
        return Ok(home.join("hub"));
    }
    let cache = absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")));
    Ok(cache.ok_or(HubError::NoCache)?.join("meanflow/hub"))
}

/// The folder of a commit.
pub(crate) fn snapshot(root: &Path, repository: &Repository, commit: &str) -> PathBuf {
    let folder = root.join(repository.folder());
    folder.join("snapshots").join(commit)
}

/// The commit that a revision was resolved to the last time.
pub(crate) fn known_commit(root: &Path, repository: &Repository) -> Option<String> {
    if is_commit(repository.revision()) {
        return Some(repository.revision().to_owned());
    }
    let text = fs::read_to_string(reference(root, repository)).ok()?;
    Some(text.trim().to_owned()).filter(|commit| is_commit(commit))
}

/// Notes what a revision was resolved to.
pub(crate) fn note_commit(
    root: &Path,
    repository: &Repository,
    commit: &str,
) -> Result<(), HubError> {
    if is_commit(repository.revision()) {
        return Ok(());
    }
    let path = reference(root, repository);
    if let Some(folder) = path.parent() {
        make(folder)?;
    }
    let io = |source| io(&path, "write", source);
    replace(&path, Durability::Synced, io, |file| {
        file.write_all(commit.as_bytes()).map_err(io)
    })
}

/// Makes a folder of the cache.
pub(crate) fn make(folder: &Path) -> Result<(), HubError> {
    create_folder(folder).map_err(|source| io(folder, "create the folder", source))
}

pub(crate) fn io(path: &Path, operation: &'static str, source: std::io::Error) -> HubError {
    HubError::Io {
        operation,
        path: path.to_owned(),
        source,
    }
}

fn reference(root: &Path, repository: &Repository) -> PathBuf {
    let folder = root.join(repository.folder());
    folder.join("refs").join(repository.revision())
}
