//! Name and hash of what values depend on.

use std::path::Path;

use meanflow_files::sha256;
use meanflow_train::fingerprint;
use serde::Serialize;

/// Name and hash of a file or of bytes in the program.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Identity {
    pub(super) name: String,
    pub(super) sha256: Option<String>,
}

impl Identity {
    /// Of something without a file.
    pub(super) fn named(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            sha256: None,
        }
    }

    /// Of bytes in the program.
    pub(super) fn embedded(name: &str, bytes: &[u8]) -> Self {
        Self {
            name: name.to_owned(),
            sha256: Some(sha256(bytes)),
        }
    }

    /// Of a file, or only the name of a folder.
    pub(super) fn of_path(path: &Path) -> anyhow::Result<Self> {
        let hash = path.is_file().then(|| fingerprint(path)).transpose()?;
        Ok(Self {
            name: shown(path),
            sha256: hash.map(|(_, hash)| hash),
        })
    }
}

/// A path as it was given; of an absolute one, which says something about a machine, the last two names.
fn shown(path: &Path) -> String {
    if !path.is_absolute() {
        return path.display().to_string();
    }
    let mut names: Vec<_> = path.iter().rev().take(2).collect();
    names.reverse();
    let short: std::path::PathBuf = names.into_iter().collect();
    let short = short.strip_prefix("/").unwrap_or(&short);
    short.display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_absolute_path_is_shown() {
        assert_eq!(shown(Path::new("runs/digits")), "runs/digits");
        assert_eq!(shown(Path::new("/a/b/runs/digits")), "runs/digits");
        assert_eq!(shown(Path::new("/digits")), "digits");
    }
}
