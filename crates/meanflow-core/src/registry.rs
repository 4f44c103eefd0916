//! Parts that a program adds under a name, so that recipes and weights files can say which.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// What a program registered under names: schedulers, networks, data sets.
///
/// A program fills it before it reads a recipe. Nothing is registered twice under one name, so that the name in a
/// file means one thing while the program runs.
#[derive(Debug)]
pub struct Registry<T> {
    what: &'static str,
    entries: Mutex<BTreeMap<&'static str, T>>,
}

/// A name that cannot be registered, or that nobody has registered.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// The name is in use.
    #[error("{what}: expected a name that is not registered yet, got \"{name}\"")]
    Taken {
        /// The kind of part.
        what: &'static str,
        /// The name.
        name: &'static str,
    },
    /// This program does not know the name.
    #[error(
        "{what}: expected a name that this program has registered ({}), got \"{name}\"",
        if known.is_empty() { "it has registered none" } else { known }
    )]
    Unknown {
        /// The kind of part.
        what: &'static str,
        /// The name.
        name: String,
        /// The names that are registered.
        known: String,
    },
    /// The part is not what it should be.
    #[error("{what} \"{name}\": {reason}")]
    Invalid {
        /// The kind of part.
        what: &'static str,
        /// The name.
        name: &'static str,
        /// What it should be and what it is.
        reason: String,
    },
}

impl<T: Copy> Registry<T> {
    /// An empty registry of what `what` says, a noun for messages.
    pub const fn new(what: &'static str) -> Self {
        Self {
            what,
            entries: Mutex::new(BTreeMap::new()),
        }
    }

    /// Adds a part under a name.
    ///
    /// # Errors
    /// [`RegistryError::Taken`].
    pub fn register(&self, name: &'static str, part: T) -> Result<(), RegistryError> {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if entries.contains_key(name) {
            let what = self.what;
            return Err(RegistryError::Taken { what, name });
        }
        entries.insert(name, part);
        Ok(())
    }

    /// The registered name equal to `name`, and its part.
    ///
    /// # Errors
    /// [`RegistryError::Unknown`].
    pub fn get(&self, name: &str) -> Result<(&'static str, T), RegistryError> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((name, part)) = entries.get_key_value(name) {
            return Ok((name, *part));
        }
        let known: Vec<&str> = entries.keys().copied().collect();
        Err(RegistryError::Unknown {
            what: self.what,
            name: name.to_owned(),
            known: known.join(", "),
        })
    }
}
