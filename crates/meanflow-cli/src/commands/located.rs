//! What a MODEL of the command line names: a file, a run directory, an exported folder, or a repository of a hub.

use std::path::{Path, PathBuf};

use meanflow_export::hub_folder;

use crate::options::Reading;

/// The file or folder that it names. A repository of a hub is fetched where it is not there yet; a folder with a `config.json` that
/// disagrees with its weights is refused.
pub(crate) fn located(model: &Path, reading: &Reading) -> anyhow::Result<PathBuf> {
    let path = match model.to_str().filter(|text| is_hub_name(text)) {
        Some(name) => fetched(name, reading.offline)?,
        None => model.to_owned(),
    };
    hub_folder::check(&path)?;
    Ok(path)
}

/// Whether a MODEL is a repository of a hub.
pub(crate) fn is_hub_name(text: &str) -> bool {
    text.starts_with("hf:")
}

/// The folder of a repository.
#[cfg(feature = "hub")]
fn fetched(name: &str, is_offline: bool) -> anyhow::Result<PathBuf> {
    use meanflow_hub::{Hub, Repository, Wanted};

    use crate::output::note;

    /// Beyond all published models of this kind, and below what a full disk would be.
    const MOST_WEIGHTS: u64 = 64 << 30;
    const MOST_CONFIG: u64 = 4 << 20;
    let files = [
        Wanted {
            name: hub_folder::CONFIG,
            most: MOST_CONFIG,
            is_required: false,
        },
        Wanted {
            name: hub_folder::WEIGHTS,
            most: MOST_WEIGHTS,
            is_required: true,
        },
    ];
    let repository: Repository = name.parse()?;
    let folder = Hub::from_environment(is_offline)?.folder(&repository, &files)?;
    let commit = folder.file_name().unwrap_or_default().to_string_lossy();
    note(format_args!("{repository}: commit {commit}"));
    Ok(folder)
}

#[cfg(not(feature = "hub"))]
fn fetched(name: &str, _is_offline: bool) -> anyhow::Result<PathBuf> {
    use crate::usage::Usage;

    Err(Usage(format!(
        "{name}: this program was built without its feature `hub`"
    ))
    .into())
}
