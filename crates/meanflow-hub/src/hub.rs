//! A hub: where it is, where its files are kept, and how a repository becomes a folder.

use std::env;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::fetch::{Address, Client, answer};
use crate::repository::is_commit;
use crate::{HubError, Repository, cache};

/// The hub, where the environment names no other.
const ENDPOINT: &str = "https://huggingface.co";
/// Longest description of a revision.
const MOST_DESCRIPTION: u64 = 1 << 24;

/// A file that is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// Its name in the repository; no folders.
    pub name: &'a str,
    /// More bytes than this are refused.
    pub most: u64,
    /// Whether a repository without it is an error.
    pub is_required: bool,
}

/// Where repositories are fetched from, and kept.
pub struct Hub {
    endpoint: Address,
    root: PathBuf,
    is_offline: bool,
    token: Option<String>,
}

/// Without the token.
impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Hub");
        shown.field("endpoint", &self.endpoint);
        shown.field("root", &self.root);
        shown.field("is_offline", &self.is_offline);
        shown.finish_non_exhaustive()
    }
}

/// What a hub says of a revision.
#[derive(Deserialize)]
struct Description {
    sha: String,
    #[serde(default)]
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
}

impl Hub {
    /// As the environment says: `HF_ENDPOINT`, `HF_HOME`, `HF_TOKEN`, and `HF_HUB_OFFLINE`, which is on also where `offline` is.
    ///
    /// # Errors
    /// If an address or the cache cannot be used.
    pub fn from_environment(offline: bool) -> Result<Self, HubError> {
        let variable = |name| env::var(name).ok().filter(|value| !value.is_empty());
        let is_on =
            |value: String| ["1", "true", "yes", "on"].contains(&value.to_lowercase().as_str());
        let endpoint = variable("HF_ENDPOINT").unwrap_or_else(|| ENDPOINT.to_owned());
        Ok(Self {
            token: variable("HF_TOKEN"),
            is_offline: offline || variable("HF_HUB_OFFLINE").is_some_and(is_on),
            ..Self::new(&endpoint, cache::root()?)?
        })
    }

    /// The hub of this address, whose files are kept in `root`.
    ///
    /// # Errors
    /// [`HubError::Endpoint`] for an address that is neither of HTTPS nor of this machine.
    pub fn new(endpoint: &str, root: PathBuf) -> Result<Self, HubError> {
        Ok(Self {
            endpoint: Address::endpoint(endpoint)?,
            root,
            is_offline: false,
            token: None,
        })
    }

    /// The same, which uses what was fetched before and never the network.
    #[must_use]
    pub fn offline(mut self) -> Self {
        self.is_offline = true;
        self
    }

    /// The same, which shows the hub this token, and no other host.
    #[must_use]
    pub fn with_token(mut self, token: &str) -> Self {
        self.token = Some(token.to_owned());
        self
    }

    /// The folder with these files of a repository; files that are not there yet are fetched.
    ///
    /// # Errors
    /// If a file cannot be had, is not what the hub says, or cannot be written. Files that are in the folder are whole in any case.
    pub fn folder(
        &self,
        repository: &Repository,
        files: &[Wanted<'_>],
    ) -> Result<PathBuf, HubError> {
        if let Some(folder) = self.known(repository, files) {
            return Ok(folder);
        }
        if self.is_offline {
            return Err(HubError::Offline {
                what: repository.to_string(),
                folder: self.root.clone(),
            });
        }
        let client = Client::new(self.token.clone());
        let described = self.describe(&client, repository)?;
        let folder = cache::snapshot(&self.root, repository, &described.sha);
        cache::make(&folder)?;
        for wanted in files {
            self.file(&client, repository, &described, wanted, &folder)?;
        }
        cache::note_commit(&self.root, repository, &described.sha)?;
        Ok(folder)
    }

    /// The folder of what was fetched before, where nothing has to be asked: of a commit, or offline.
    fn known(&self, repository: &Repository, files: &[Wanted<'_>]) -> Option<PathBuf> {
        if !(self.is_offline || is_commit(repository.revision())) {
            return None;
        }
        let commit = cache::known_commit(&self.root, repository)?;
        let folder = cache::snapshot(&self.root, repository, &commit);
        let is_there = |file: &Wanted<'_>| folder.join(file.name).is_file();
        let mut required = files.iter().filter(|file| file.is_required);
        required.all(is_there).then_some(folder)
    }

    fn describe(&self, client: &Client, repository: &Repository) -> Result<Description, HubError> {
        let (id, revision) = (repository.id(), repository.revision());
        let path = format!("api/models/{id}/revision/{revision}");
        let address = self.endpoint.join(&path);
        let text = client.text(&address, MOST_DESCRIPTION)?;
        let expected = "a description with the commit (sha) of a revision";
        let refused = |got: String| answer(&address, expected, got);
        let described: Description =
            serde_json::from_str(&text).map_err(|error| refused(error.to_string()))?;
        if !is_commit(&described.sha) {
            return Err(refused(format!("sha = {:?}", described.sha)));
        }
        Ok(described)
    }

    fn file(
        &self,
        client: &Client,
        repository: &Repository,
        described: &Description,
        wanted: &Wanted<'_>,
        folder: &Path,
    ) -> Result<(), HubError> {
        let to = folder.join(wanted.name);
        if to.is_file() {
            return Ok(());
        }
        let mut files = described.siblings.iter();
        let is_there = files.any(|one| one.rfilename == wanted.name);
        if !(is_there || wanted.is_required) {
            return Ok(());
        }
        let (id, sha, name) = (repository.id(), &described.sha, wanted.name);
        let path = format!("{id}/resolve/{sha}/{name}");
        client.file(&self.endpoint.join(&path), &to, wanted.most)
    }
}
