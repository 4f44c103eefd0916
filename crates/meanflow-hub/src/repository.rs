//! The name of a repository.

use std::fmt;
use std::str::FromStr;

use crate::HubError;

/// The beginning of a name.
const SCHEME: &str = "hf:";
/// The revision of a name without one.
const DEFAULT_REVISION: &str = "main";
/// Longest part of a name.
const LONGEST: usize = 96;

/// A repository of a hub and a revision of it: `hf:OWNER/NAME[@REVISION]`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Repository {
    owner: String,
    name: String,
    revision: String,
}

impl Repository {
    /// Whether a text is meant as the name of one.
    pub fn is_name(text: &str) -> bool {
        text.starts_with(SCHEME)
    }

    /// `OWNER/NAME`.
    pub fn id(&self) -> String {
        format!("{}/{}", self.owner, self.name)
    }

    /// A branch, a tag or a commit; `main` where none was named.
    pub fn revision(&self) -> &str {
        &self.revision
    }

    /// The folder that a cache has for it.
    pub(crate) fn folder(&self) -> String {
        format!("models--{}--{}", self.owner, self.name)
    }
}

impl FromStr for Repository {
    type Err = HubError;

    fn from_str(text: &str) -> Result<Self, HubError> {
        let refused = || HubError::Name {
            name: text.to_owned(),
        };
        let name = text.strip_prefix(SCHEME).ok_or_else(refused)?;
        let (id, revision) = name.split_once('@').unwrap_or((name, DEFAULT_REVISION));
        let (owner, name) = id.split_once('/').ok_or_else(refused)?;
        // A revision is part of an address and of a path: no part of it may lead elsewhere.
        let are_parts = is_part(owner) && is_part(name) && revision.split('/').all(is_part);
        if !are_parts || [owner, name].iter().any(|part| part.contains("--")) {
            return Err(refused());
        }
        Ok(Self {
            owner: owner.to_owned(),
            name: name.to_owned(),
            revision: revision.to_owned(),
        })
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}/{}@{}", self.owner, self.name, self.revision)
    }
}

/// Letters, digits, dots, underscores and hyphens, that neither begin nor end with a dot or hyphen.
fn is_part(part: &str) -> bool {
    let is_end = |c: char| c.is_ascii_alphanumeric() || c == '_';
    part.len() <= LONGEST
        && part.starts_with(is_end)
        && part.ends_with(is_end)
        && !part.contains("..")
        && part.chars().all(|c| is_end(c) || c == '.' || c == '-')
}

/// Whether a text is the full name of a commit.
pub(crate) fn is_commit(text: &str) -> bool {
    let is_digit = |byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    text.len() == 40 && text.bytes().all(is_digit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_an_owner_a_name_and_perhaps_a_revision() {
        for (text, id, revision) in [
            ("hf:owner/name", "owner/name", "main"),
            ("hf:a-b/c.d_e@v1.0", "a-b/c.d_e", "v1.0"),
            ("hf:owner/name@refs/pr/3", "owner/name", "refs/pr/3"),
        ] {
            let repository: Repository = text.parse().unwrap();
            assert_eq!((&*repository.id(), repository.revision()), (id, revision));
            let again = repository.to_string().parse::<Repository>();
            assert_eq!(again.unwrap(), repository);
        }
    }

    /// Every one of these would reach another address, or another folder, than that of a model.
    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        let long = format!("hf:owner/{}", "x".repeat(200));
        for text in [
            &*long,
            "owner/name",
            "hf:name",
            "hf:/name",
            "hf:owner/",
            "hf:owner/name@",
            "hf:owner/name/more",
            "hf:../name",
            "hf:owner/..",
            "hf:owner/name@../../etc",
            "hf:owner/name@a//b",
            "hf:owner/name?x=1",
            "hf:owner/na me",
            "hf:owner/name#x",
            "hf:user:password@host/name",
            "hf:owner/name@v1@v2",
            "hf:a--b/name",
            "hf:owner/name%2e%2e",
            "hf:öwner/name",
        ] {
            let error = text.parse::<Repository>().unwrap_err().to_string();
            assert!(error.contains("hf:OWNER/NAME"), "{text}: {error}");
        }
    }
}
