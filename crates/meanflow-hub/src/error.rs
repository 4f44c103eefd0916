//! What can go wrong between a name and its files.

use std::io;
use std::path::PathBuf;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HubError {
    /// A text that is no name of a repository.
    #[error("{name}: expected hf:OWNER/NAME or hf:OWNER/NAME@REVISION")]
    Name {
        /// The text.
        name: String,
    },
    /// An address of a hub that is not used.
    #[error(
        "HF_ENDPOINT={endpoint}: expected an address with https://, or http:// on this machine"
    )]
    Endpoint {
        /// The address.
        endpoint: String,
    },
    /// A file that is not in the cache, where the network may not be used.
    #[error("{what}: not fetched before, and offline: looked in {}", folder.display())]
    Offline {
        /// What was asked for.
        what: String,
        /// The cache.
        folder: PathBuf,
    },
    /// No folder for what is fetched.
    #[error("no cache folder: set HF_HOME, XDG_CACHE_HOME or HOME")]
    NoCache,
    /// The hub has no such repository, revision or file, or does not show it to everybody.
    #[error("{address}: {status}, {reason}")]
    Refused {
        /// What was asked for.
        address: String,
        /// The status of HTTP.
        status: u16,
        /// What it means here.
        reason: &'static str,
    },
    /// The hub could not be reached, or stopped in the middle of an answer.
    #[error("{address}: {problem}")]
    Network {
        /// What was asked for.
        address: String,
        /// The reason in words.
        problem: String,
    },
    /// An answer that is none of a hub.
    #[error("{address}: expected {expected}, got {got}")]
    Answer {
        /// What was asked for.
        address: String,
        /// What the answer should have been.
        expected: String,
        /// What it was.
        got: String,
    },
    /// A file whose content is not what the hub says.
    #[error(
        "{address}: damaged on the way: expected {what} {expected}, got {got}; nothing was kept"
    )]
    Damaged {
        /// The file.
        address: String,
        /// What was compared.
        what: &'static str,
        /// What the hub says.
        expected: String,
        /// What arrived.
        got: String,
    },
    /// The file system refused.
    #[error("{}: could not {operation}", path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On which file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
}
