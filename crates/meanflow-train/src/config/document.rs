//! From text to a checked type: the TOML tree with its overrides, and the place of every key for error messages.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use toml::de::{DeTable, DeValue};
use toml::{Spanned, Table, Value};

use super::error::{ConfigError, Place};
use super::overrides::Override;

/// A config file after its overrides, before it is understood.
pub(super) struct Document {
    path: PathBuf,
    text: String,
    tree: Table,
    /// Where values stand, by dotted key; tables stand at their header or key.
    places: HashMap<String, Place>,
    /// Where keys stand, for those that should not be there.
    key_places: HashMap<String, Place>,
}

impl Document {
    /// Reads the text and applies `overrides` in order. `path` is only for messages.
    ///
    /// # Errors
    /// What is no TOML, an override that is no `key=value`, and any number that is not finite.
    pub(super) fn parse(
        path: &Path,
        text: &str,
        overrides: &[String],
    ) -> Result<Self, ConfigError> {
        let mut document = Self {
            path: path.to_owned(),
            text: text.to_owned(),
            tree: Table::new(),
            places: HashMap::new(),
            key_places: HashMap::new(),
        };
        let syntax = |error: &toml::de::Error| ConfigError::Syntax {
            place: Place::in_file(
                path.to_owned(),
                text,
                error.span().map_or(0, |span| span.start),
            ),
            message: error.message().to_owned(),
        };
        let spanned = DeTable::parse(text).map_err(|error| syntax(&error))?;
        document.tree = toml::from_str(text).map_err(|error| syntax(&error))?;
        document.note_table("", spanned.get_ref());
        for text in overrides {
            document.apply(&Override::parse(text)?)?;
        }
        document.refuse_not_finite("", &document.tree)?;
        Ok(document)
    }

    /// The tree as a `T`, refusing keys it does not know.
    pub(super) fn decode<T: DeserializeOwned>(&self) -> Result<T, ConfigError> {
        serde_path_to_error::deserialize(self.tree.clone()).map_err(|error| {
            let path = match error.path().to_string() {
                root if root == "." => String::new(),
                path => path,
            };
            let message = error.inner().message();
            let key = self.culprit(&path, message).unwrap_or(path);
            match self.key_places.get(&key) {
                Some(place) if message.starts_with("unknown field") => ConfigError::Key {
                    place: place.clone(),
                    key,
                    message: message.to_owned(),
                },
                _ => self.error(&key, reworded(message, &key)),
            }
        })
    }

    /// The error `message` at the place of `key`, or of the nearest table around it.
    pub(super) fn error(&self, key: &str, message: impl Into<String>) -> ConfigError {
        let mut at = key;
        let place = loop {
            if let Some(place) = self.places.get(at) {
                break place.clone();
            }
            match at.rfind(['.', '[']) {
                Some(end) => at = &at[..end],
                None => break Place::in_file(self.path.clone(), &self.text, 0),
            }
        };
        ConfigError::Key {
            place,
            key: key.to_owned(),
            message: message.into(),
        }
    }

    fn apply(&mut self, change: &Override) -> Result<(), ConfigError> {
        change
            .apply(&mut self.tree)
            .map_err(|key| ConfigError::Key {
                place: Place::Override(change.text.clone()),
                key,
                message: "expected a table, got a value".to_owned(),
            })?;
        for places in [&mut self.places, &mut self.key_places] {
            // What stood in a table that is replaced is no longer what counts.
            let inside = |place: &str| {
                let rest = place.strip_prefix(change.key.as_str());
                rest.is_some_and(|rest| rest.starts_with(['.', '[']))
            };
            places.retain(|place, _| !inside(place));
            places.insert(change.key.clone(), Place::Override(change.text.clone()));
        }
        Ok(())
    }

    fn note_table(&mut self, prefix: &str, table: &DeTable<'_>) {
        for (key, value) in table {
            let path = join(prefix, key.get_ref());
            let place = Place::in_file(self.path.clone(), &self.text, key.span().start);
            self.key_places.insert(path.clone(), place);
            let start = if value.get_ref().is_table() {
                key.span().start
            } else {
                value.span().start
            };
            self.note(&path, start, value);
        }
    }

    fn note(&mut self, path: &str, start: usize, value: &Spanned<DeValue<'_>>) {
        let place = Place::in_file(self.path.clone(), &self.text, start);
        self.places.insert(path.to_owned(), place);
        match value.get_ref() {
            DeValue::Table(table) => self.note_table(path, table),
            DeValue::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    self.note(&format!("{path}[{index}]"), item.span().start, item);
                }
            }
            _ => {}
        }
    }

    /// NaN and infinities are valid TOML and never a valid setting.
    fn refuse_not_finite(&self, prefix: &str, table: &Table) -> Result<(), ConfigError> {
        table
            .iter()
            .try_for_each(|(key, value)| self.refuse_value(&join(prefix, key), value))
    }

    fn refuse_value(&self, path: &str, value: &Value) -> Result<(), ConfigError> {
        match value {
            Value::Float(number) if !number.is_finite() => {
                Err(self.error(path, format!("expected a finite number, got {number}")))
            }
            Value::Table(table) => self.refuse_not_finite(path, table),
            Value::Array(items) => items
                .iter()
                .enumerate()
                .try_for_each(|(i, item)| self.refuse_value(&format!("{path}[{i}]"), item)),
            _ => Ok(()),
        }
    }

    /// Serde reads a table tagged by `kind` in two passes and forgets the key inside it, and a check of a whole table
    /// knows no path: the key is found again by what the message says of it.
    fn culprit(&self, path: &str, message: &str) -> Option<String> {
        let table = self.table_at(path)?;
        let named =
            quoted_after(message, "unknown field `").or_else(|| Some(message.split_once(": ")?.0));
        let named = named.filter(|key| table.contains_key(*key));
        let key = named.or_else(|| {
            let mut matching = table
                .iter()
                .filter(|(_, value)| described(value).iter().any(|d| message.contains(d)));
            let (key, _) = matching.next()?;
            matching.next().is_none().then_some(key.as_str())
        })?;
        Some(join(path, key))
    }

    fn table_at(&self, path: &str) -> Option<&Table> {
        path.split('.')
            .filter(|part| !part.is_empty())
            .try_fold(&self.tree, |table, part| table.get(part)?.as_table())
    }
}

fn join(prefix: &str, key: &str) -> String {
    if prefix.is_empty() {
        key.to_owned()
    } else {
        format!("{prefix}.{key}")
    }
}

fn quoted_after<'a>(message: &'a str, start: &str) -> Option<&'a str> {
    message.strip_prefix(start)?.split('`').next()
}

/// The ways serde may name this value in a message.
fn described(value: &Value) -> Vec<String> {
    match value {
        Value::Integer(n) => vec![
            format!("integer `{n}`"),
            format!("floating point `{:?}`", *n as f64),
        ],
        Value::Float(x) => vec![
            format!("floating point `{x:?}`"),
            format!("floating point `{x}`"),
        ],
        Value::Boolean(b) => vec![format!("boolean `{b}`")],
        Value::String(s) => vec![format!("string {s:?}"), format!("unknown variant `{s}`")],
        _ => Vec::new(),
    }
}

/// `invalid value: A, expected B` as `expected B, got A`, and the key not twice.
fn reworded(message: &str, key: &str) -> String {
    let name = key.rsplit('.').next().unwrap_or(key);
    let message = message
        .strip_prefix(&format!("{name}: "))
        .unwrap_or(message);
    let body = message
        .strip_prefix("invalid value: ")
        .or_else(|| message.strip_prefix("invalid type: "));
    match body.and_then(|body| body.split_once(", expected ")) {
        Some((got, expected)) => format!("expected {expected}, got {got}"),
        None => message.to_owned(),
    }
}
