//! The hash of what a weights file says, which stands in its own metadata.
//!
//! SHA-256 over the metadata (without the hash), over name, type and shape of every tensor in the order of their numbers
//! in the file, and over the numbers. It does not depend on how the header is laid out, so a tool that copies a file
//! tensor by tensor with its metadata keeps it valid.

use std::collections::BTreeMap;

use meanflow_files::Sha256;

/// The key of the hash.
pub(crate) const HASH_KEY: &str = "content_sha256";
/// The key that says how the hash is made. Both keys stand in a file or neither: a damaged key is noticed by the other.
pub(crate) const RULE_KEY: &str = "content_rule";
/// The only rule there is.
const RULE: &str = "1";
/// In the place of a hash that is not known yet.
pub(crate) const UNKNOWN: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// A hash of which the numbers of the tensors are still missing.
pub(crate) struct ContentHash(Sha256);

impl ContentHash {
    /// The hash of this metadata, in which keys of the hash itself are passed over, and of tensors given by name, type and
    /// shape in the order of their numbers.
    pub(crate) fn new<'a>(
        metadata: &BTreeMap<String, String>,
        tensors: impl ExactSizeIterator<Item = (&'a str, &'a str, Vec<u64>)>,
    ) -> Self {
        let mut hash = Self(Sha256::new());
        let own = |key: &&String| [HASH_KEY, RULE_KEY].contains(&key.as_str());
        hash.number(metadata.keys().filter(|key| !own(key)).count() as u64);
        for (key, value) in metadata.iter().filter(|(key, _)| !own(key)) {
            hash.text(key);
            hash.text(value);
        }
        hash.number(tensors.len() as u64);
        for (name, dtype, shape) in tensors {
            hash.text(name);
            hash.text(dtype);
            hash.number(shape.len() as u64);
            for side in shape {
                hash.number(side);
            }
        }
        hash
    }

    /// Goes on with bytes of the tensors.
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The hash in lower-case hexadecimal.
    pub(crate) fn finish(self) -> String {
        self.0.finish()
    }

    fn number(&mut self, number: u64) {
        self.0.update(number.to_le_bytes());
    }

    fn text(&mut self, text: &str) {
        self.number(text.len() as u64);
        self.0.update(text);
    }
}

/// The recorded hash of a file with this metadata; none where it has none.
///
/// # Errors
/// In words, where it has half of a record.
pub(crate) fn recorded(metadata: &BTreeMap<String, String>) -> Result<Option<&str>, String> {
    match (metadata.get(HASH_KEY), metadata.get(RULE_KEY)) {
        (None, None) => Ok(None),
        (Some(hash), Some(rule)) if rule == RULE => Ok(Some(hash)),
        (Some(_), Some(rule)) => Err(format!("{RULE_KEY}: expected {RULE}, got {rule}")),
        (Some(_), None) => Err(format!("damaged metadata: {HASH_KEY} without {RULE_KEY}")),
        (None, Some(_)) => Err(format!("damaged metadata: {RULE_KEY} without {HASH_KEY}")),
    }
}

/// The metadata with this hash.
pub(crate) fn with_hash(
    mut metadata: BTreeMap<String, String>,
    hash: &str,
) -> BTreeMap<String, String> {
    metadata.insert(HASH_KEY.to_owned(), hash.to_owned());
    metadata.insert(RULE_KEY.to_owned(), RULE.to_owned());
    metadata
}
