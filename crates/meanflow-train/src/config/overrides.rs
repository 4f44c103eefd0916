//! `--set a.b.c=value`: one value of the config replaced from the command line.

use toml::{Table, Value};

use super::error::ConfigError;

/// One override: the dotted key, taken apart, and its value.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Override {
    /// As given on the command line.
    pub(super) text: String,
    /// The dotted key.
    pub(super) key: String,
    /// TOML value syntax; what is none of it is a string.
    pub(super) value: Value,
}

impl Override {
    /// Reads `key=value`.
    pub(super) fn parse(text: &str) -> Result<Self, ConfigError> {
        let wrong = || ConfigError::Override {
            text: text.to_owned(),
        };
        let (key, value) = text.split_once('=').ok_or_else(wrong)?;
        let key = key.trim();
        if key
            .split('.')
            .any(|part| part.is_empty() || part.contains(char::is_whitespace))
        {
            return Err(wrong());
        }
        Ok(Self {
            text: text.to_owned(),
            key: key.to_owned(),
            value: read_value(value.trim()),
        })
    }

    /// Puts the value into the tree; tables on the way that are missing are made.
    /// `Err` names the key that stands in the way because it is no table.
    pub(super) fn apply(&self, tree: &mut Table) -> Result<(), String> {
        let mut table = tree;
        let mut parts: Vec<&str> = self.key.split('.').collect();
        let last = parts.pop().unwrap_or_default();
        for (depth, part) in parts.iter().enumerate() {
            let entry = table
                .entry(*part)
                .or_insert_with(|| Value::Table(Table::new()));
            table = entry
                .as_table_mut()
                .ok_or_else(|| parts[..=depth].join("."))?;
        }
        table.insert(last.to_owned(), self.value.clone());
        Ok(())
    }
}

/// A TOML value, or the text itself: `--set data.kind=digits` needs no quotes.
fn read_value(text: &str) -> Value {
    let line = format!("value = {text}");
    match toml::from_str::<Table>(&line) {
        Ok(mut table) if table.len() == 1 => table
            .remove("value")
            .unwrap_or(Value::String(text.to_owned())),
        _ => Value::String(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_toml_or_else_text() {
        let value = |text| Override::parse(text).unwrap().value;
        assert_eq!(value("a=1e-3"), Value::Float(1e-3));
        assert_eq!(value("a=3"), Value::Integer(3));
        assert_eq!(value("a=true"), Value::Boolean(true));
        assert_eq!(value("a=digits"), Value::String("digits".into()));
        assert_eq!(value("a=\"x=y\""), Value::String("x=y".into()));
        assert_eq!(
            value("a=[1, 2]"),
            Value::Array(vec![Value::Integer(1), Value::Integer(2)])
        );
        assert_eq!(
            value("a=1\nb=2"),
            Value::String("1\nb=2".into()),
            "a second line is no way to a second key"
        );
    }

    #[test]
    fn a_key_without_a_value_is_refused() {
        for text in ["", "a", "=1", "a..b=1", ".a=1", "a b=1"] {
            assert!(
                matches!(Override::parse(text), Err(ConfigError::Override { .. })),
                "{text}"
            );
        }
    }

    #[test]
    fn an_override_goes_where_its_key_says() {
        let mut tree: Table = toml::from_str("[lr]\npeak = 1.0\nwarmup_steps = 5").unwrap();
        Override::parse("lr.peak=2.0")
            .unwrap()
            .apply(&mut tree)
            .unwrap();
        Override::parse("guidance.omega=3.0")
            .unwrap()
            .apply(&mut tree)
            .unwrap();
        assert_eq!(tree["lr"]["peak"].as_float(), Some(2.0));
        assert_eq!(tree["lr"]["warmup_steps"].as_integer(), Some(5));
        assert_eq!(tree["guidance"]["omega"].as_float(), Some(3.0));
        assert_eq!(
            Override::parse("lr.peak.x=1").unwrap().apply(&mut tree),
            Err("lr.peak".into())
        );
    }
}
