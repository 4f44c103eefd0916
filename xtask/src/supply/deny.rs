//! What `deny.toml` says that dependencies may be; cargo-deny reads the same.

use anyhow::{Context, Result};
use semver::{Version, VersionReq};
use serde::Deserialize;

use crate::{files, workspace};

#[derive(Deserialize)]
pub(super) struct Deny {
    pub(super) advisories: Advisories,
    pub(super) licenses: Licenses,
    pub(super) bans: Bans,
}

#[derive(Deserialize)]
pub(super) struct Advisories {
    /// Those that are known and accepted.
    pub(super) ignore: Vec<Ignored>,
}

#[derive(Deserialize)]
pub(super) struct Ignored {
    pub(super) id: String,
    pub(super) reason: String,
}

#[derive(Deserialize)]
pub(super) struct Licenses {
    /// Licences that ask for no more than a notice.
    pub(super) allow: Vec<String>,
}

#[derive(Deserialize)]
pub(super) struct Bans {
    pub(super) deny: Vec<Banned>,
}

/// A crate that is not wanted.
#[derive(Deserialize)]
pub(super) struct Banned {
    /// Its name, and behind a colon the versions, where it is not all of them.
    #[serde(rename = "crate")]
    name: String,
    pub(super) reason: String,
}

impl Deny {
    pub(super) fn read() -> Result<Self> {
        let text = files::read(&workspace::root().join("deny.toml"))?;
        toml::from_str(&text).context("unreadable: deny.toml")
    }
}

impl Banned {
    /// Whether it is this crate in this version.
    pub(super) fn is(&self, name: &str, version: &Version) -> bool {
        let (banned, versions) = self.name.split_once(':').unwrap_or((&self.name, ""));
        // Versions that cannot be read are all of them, as are those before a release.
        let versions = VersionReq::parse(versions).unwrap_or_default();
        banned == name && (versions == VersionReq::STAR || versions.matches(version))
    }
}
