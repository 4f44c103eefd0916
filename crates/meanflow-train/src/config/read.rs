//! Reads a type from a TOML tree, with errors that keep what they are about: the path, the key, the value.
//!
//! The errors of serde's usual formats are sentences. These are kept in parts, because serde reads a table with a `kind`
//! in two passes and forgets the path inside of it: there the key is known only by its name or by its value.

use std::fmt;

use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, Error, Expected, IntoDeserializer,
    MapAccess, SeqAccess, Unexpected, VariantAccess, Visitor,
};
use serde::forward_to_deserialize_any;
use toml::Value;

/// Reads a `T`, refusing what its type refuses.
pub(super) fn read<T: DeserializeOwned>(tree: &Value) -> Result<T, Mistake> {
    T::deserialize(Reader(tree))
}

/// Why a tree is no `T`.
#[derive(Debug)]
pub(super) struct Mistake {
    /// The way to the value that is being read, from its end: keys, and places in lists as `[3]`.
    way: Vec<String>,
    /// What is wrong there.
    pub(super) about: About,
    /// What was expected, and what is there instead.
    pub(super) message: String,
}

/// What of the value at its path a mistake is about.
#[derive(Debug, PartialEq)]
pub(super) enum About {
    /// All of it.
    Whole,
    /// A key that has no place in it.
    UnknownKey(String),
    /// This value, which is the one at the path or in its table.
    Value(Value),
}

impl Mistake {
    fn new(about: About, message: String) -> Self {
        let way = Vec::new();
        Self {
            way,
            about,
            message,
        }
    }

    fn inside(mut self, part: impl Into<String>) -> Self {
        self.way.push(part.into());
        self
    }

    /// The dotted path of the value that is being read, `ema.decays[1]`; empty for the tree.
    pub(super) fn path(&self) -> String {
        let mut path = String::new();
        for part in self.way.iter().rev() {
            if !path.is_empty() && !part.starts_with('[') {
                path.push('.');
            }
            path.push_str(part);
        }
        path
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path(), self.message)
    }
}

impl std::error::Error for Mistake {}

impl Error for Mistake {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(About::Whole, message.to_string())
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let about = value_of(found).map_or(About::Whole, About::Value);
        Self::new(about, format!("expected {expected}, got {found}"))
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::invalid_type(found, expected)
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        let about = About::Value(Value::String(variant.to_owned()));
        let expected = listed(expected);
        Self::new(about, format!("unknown variant `{variant}`, {expected}"))
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        let about = About::UnknownKey(field.to_owned());
        let expected = listed(expected);
        Self::new(about, format!("unknown field `{field}`, {expected}"))
    }
}

/// What a name could have been.
fn listed(names: &[&str]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    match quoted.as_slice() {
        [] => "there are none".to_owned(),
        [name] => format!("expected {name}"),
        [one, other] => format!("expected {one} or {other}"),
        names => format!("expected one of {}", names.join(", ")),
    }
}

/// A value of a tree that was not expected.
fn value_of(found: Unexpected<'_>) -> Option<Value> {
    Some(match found {
        Unexpected::Bool(value) => Value::Boolean(value),
        Unexpected::Signed(value) => Value::Integer(value),
        Unexpected::Unsigned(value) => Value::Integer(value.try_into().ok()?),
        Unexpected::Float(value) => Value::Float(value),
        Unexpected::Str(value) => Value::String(value.to_owned()),
        _ => return None,
    })
}

/// One value as serde reads it.
struct Reader<'a>(&'a Value);

impl<'de> Deserializer<'de> for Reader<'de> {
    type Error = Mistake;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        match self.0 {
            Value::String(text) => visitor.visit_borrowed_str(text),
            Value::Integer(number) => visitor.visit_i64(*number),
            Value::Float(number) => visitor.visit_f64(*number),
            Value::Boolean(value) => visitor.visit_bool(*value),
            Value::Datetime(date) => visitor.visit_string(date.to_string()),
            Value::Array(items) => visitor.visit_seq(Items(items.iter().enumerate())),
            Value::Table(table) => visitor.visit_map(Entries {
                rest: table.iter(),
                current: None,
            }),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Mistake> {
        visitor.visit_newtype_struct(self)
    }

    /// A name, or a table with one name and what belongs to it.
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Mistake> {
        let table = match self.0 {
            Value::String(name) => return visitor.visit_enum(name.as_str().into_deserializer()),
            Value::Table(table) if table.len() == 1 => table,
            _ => return self.deserialize_any(visitor),
        };
        match table.iter().next() {
            Some((name, value)) => visitor
                .visit_enum(Variant { name, value })
                .map_err(|mistake| match mistake.about {
                    About::Value(Value::String(ref wrong)) if wrong == name => mistake,
                    _ => mistake.inside(name),
                }),
            None => self.deserialize_any(visitor),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map struct identifier ignored_any
    }
}

/// The items of a list.
struct Items<'a>(std::iter::Enumerate<std::slice::Iter<'a, Value>>);

impl<'de> SeqAccess<'de> for Items<'de> {
    type Error = Mistake;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Mistake> {
        let Some((index, item)) = self.0.next() else {
            return Ok(None);
        };
        let element = seed.deserialize(Reader(item));
        element
            .map(Some)
            .map_err(|mistake| mistake.inside(format!("[{index}]")))
    }
}

/// The entries of a table.
struct Entries<'a> {
    rest: toml::map::Iter<'a, String, Value>,
    current: Option<(&'a String, &'a Value)>,
}

impl<'de> MapAccess<'de> for Entries<'de> {
    type Error = Mistake;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Mistake> {
        self.current = self.rest.next();
        let Some((key, _)) = self.current else {
            return Ok(None);
        };
        seed.deserialize(key.as_str().into_deserializer()).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Mistake> {
        let (key, value) = self
            .current
            .ok_or_else(|| Mistake::custom("a value was asked for before its key"))?;
        let value = seed.deserialize(Reader(value));
        value.map_err(|mistake| mistake.inside(key))
    }
}

/// The one entry of a table that is a variant with its content.
struct Variant<'a> {
    name: &'a str,
    value: &'a Value,
}

impl<'de> EnumAccess<'de> for Variant<'de> {
    type Error = Mistake;
    type Variant = Reader<'de>;

    fn variant_seed<V: DeserializeSeed<'de>>(
        self,
        seed: V,
    ) -> Result<(V::Value, Reader<'de>), Mistake> {
        let name = seed.deserialize(self.name.into_deserializer())?;
        Ok((name, Reader(self.value)))
    }
}

impl<'de> VariantAccess<'de> for Reader<'de> {
    type Error = Mistake;

    fn unit_variant(self) -> Result<(), Mistake> {
        Err(Mistake::custom(
            "expected the name alone, got a value for it",
        ))
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Mistake> {
        seed.deserialize(self)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Mistake> {
        self.deserialize_any(visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Mistake> {
        self.deserialize_any(visitor)
    }
}
