//! What can be wrong with a config, and where.

use std::fmt;
use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// A config that cannot be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the config {}", path.display())]
    Read {
        /// The file asked for.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The text is no TOML.
    #[error("{place}: {message}")]
    Syntax {
        /// Where reading stopped.
        place: Place,
        /// What the parser expected there.
        message: String,
    },
    /// A key is unknown, missing, or has a value that cannot be used.
    #[error("{place}: {}{message}", prefix(key))]
    Key {
        /// Where the key stands.
        place: Place,
        /// The dotted key, `lr.peak`; empty for the whole file.
        key: String,
        /// What was expected and what was found.
        message: String,
    },
    /// No recipe of this name comes with the program.
    #[error("preset: expected one of {there}, got {name}")]
    Preset {
        /// The name asked for.
        name: String,
        /// The names that there are.
        there: String,
    },
    /// An override is not of the form `key=value`.
    #[error("--set {text}: expected KEY=VALUE with a dotted KEY such as lr.peak")]
    Override {
        /// The override as given.
        text: String,
    },
}

fn prefix(key: &str) -> String {
    if key.is_empty() {
        String::new()
    } else {
        format!("{key}: ")
    }
}

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A position in the file, both counted from one.
    File {
        /// The file as it was named.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// Column in characters, from 1.
        column: usize,
    },
    /// An override on the command line, as given.
    Override(String),
}

impl Place {
    /// The position of a byte offset in `text`.
    pub(super) fn in_file(path: PathBuf, text: &str, offset: usize) -> Self {
        let before = text.get(..offset).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Self::File {
            path,
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line, column } => write!(f, "{}:{line}:{column}", path.display()),
            Self::Override(text) => write!(f, "--set {text}"),
        }
    }
}
