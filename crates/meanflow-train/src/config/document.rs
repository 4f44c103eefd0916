//! From text to a checked type: the TOML tree with its overrides, and the place of every key for error messages.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use toml::de::{DeTable, DeValue};
use toml::{Spanned, Table, Value};

use super::error::{ConfigError, Place};
use super::overrides::Override;
use super::read::{self, About, Mistake};

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
        read::read(&Value::Table(self.tree.clone())).map_err(|mistake| self.at_its_key(&mistake))
    }

    /// A mistake with its key and place. Inside of a table with a `kind` only the table is known: the key is the one that
    /// the mistake names, or that alone has the value it is about.
    fn at_its_key(&self, mistake: &Mistake) -> ConfigError {
        let path = mistake.path();
        let Some(table) = self.table_at(&path) else {
            return self.error(&path, &mistake.message);
        };
        match &mistake.about {
            About::UnknownKey(name) => {
                let key = join(&path, name);
                match self.key_places.get(&key) {
                    Some(place) => ConfigError::Key {
                        place: place.clone(),
                        key,
                        message: mistake.message.clone(),
                    },
                    None => self.error(&path, &mistake.message),
                }
            }
            About::Value(value) => {
                let mut there = table.iter().filter(|(_, other)| is_same(value, other));
                match (there.next(), there.next()) {
                    (Some((name, _)), None) => self.error(&join(&path, name), &mistake.message),
                    _ => self.error(&path, &mistake.message),
                }
            }
            // What a type of ours says of a whole table begins with the key, `kappa: expected …`.
            About::Whole => match mistake.message.split_once(": ") {
                Some((name, rest)) if table.contains_key(name) => {
                    self.error(&join(&path, name), rest)
                }
                _ => self.error(&path, &mistake.message),
            },
        }
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

/// Whether they are the same value; a whole number that is read as a number with a point still is.
fn is_same(value: &Value, other: &Value) -> bool {
    match (value, other) {
        (Value::Float(one), Value::Integer(other)) => *one == *other as f64,
        (one, other) => one == other,
    }
}
