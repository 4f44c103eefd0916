//! The packages that cargo knows: those of the workspace and all that they depend on.

use std::path::PathBuf;

use anyhow::{Context, Result};
use semver::Version;
use serde::Deserialize;

use crate::command;

/// A package, as cargo describes it.
#[derive(Deserialize)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) version: Version,
    /// The expression in its manifest.
    pub(crate) license: Option<String>,
    pub(crate) manifest_path: PathBuf,
    /// The registry; none for the crates of the workspace.
    pub(crate) source: Option<String>,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

/// Every package of the lock file, or those of them that a platform needs.
pub(crate) fn packages(platform: Option<&str>) -> Result<Vec<Package>> {
    let mut cargo = command::cargo();
    cargo.args(["metadata", "--format-version", "1", "--locked"]);
    if let Some(platform) = platform {
        cargo.args(["--filter-platform", platform]);
    }
    let said = command::answer(&mut cargo)?;
    let metadata: Metadata = serde_json::from_str(&said).context("unreadable: cargo metadata")?;
    Ok(metadata.packages)
}
