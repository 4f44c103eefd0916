//! `config.json`: what a model is, for programs that do not read the metadata of its weights.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use meanflow_torch::weights;
use serde_json::{Map, Value, json};

use super::{CONFIG, WEIGHTS};
use crate::ExportError;

/// The version of what stands in the file.
const FORMAT_VERSION: u64 = 1;
/// Longest file that is read.
const MAX_BYTES: u64 = 1 << 22;
/// Keys of the metadata that stand in the file, where there are any; their values are JSON.
const KEYS: [&str; 3] = ["model", "class_names", "latents"];

/// The text of the file for weights with these metadata.
///
/// # Errors
/// In words, where the metadata do not hold JSON under the keys that must.
pub(super) fn text(metadata: &BTreeMap<String, String>) -> Result<String, String> {
    let described = described(metadata)?;
    let text = serde_json::to_string_pretty(&described);
    text.map(|text| text + "\n")
        .map_err(|error| error.to_string())
}

/// What the metadata say.
fn described(metadata: &BTreeMap<String, String>) -> Result<Value, String> {
    let mut config = Map::new();
    config.insert("model_type".to_owned(), json!("meanflow"));
    config.insert("format_version".to_owned(), json!(FORMAT_VERSION));
    for key in KEYS {
        if let Some(text) = metadata.get(key) {
            let value = serde_json::from_str(text)
                .map_err(|error| format!("unreadable \"{key}\" in the metadata: {error}"))?;
            config.insert(key.to_owned(), value);
        }
    }
    Ok(Value::Object(config))
}

/// Compares the `config.json` of a folder with the metadata of the weights in it. Keys that only the file has are not looked at: other programs add
/// some. A folder without that file, or without weights, is in order.
///
/// # Errors
/// [`ExportError::Config`] with the first key that differs; if a file cannot be read.
pub fn check(folder: &Path) -> Result<(), ExportError> {
    let (path, weights) = (folder.join(CONFIG), folder.join(WEIGHTS));
    if !(path.is_file() && weights.is_file()) {
        return Ok(());
    }
    let problem = |problem: String| ExportError::File {
        path: path.clone(),
        problem,
    };
    let text = read(&path)?;
    let got: Value =
        serde_json::from_str(&text).map_err(|error| problem(format!("unreadable: {error}")))?;
    let expected = described(&weights::header(&weights)?.metadata).map_err(problem)?;
    let Some(Difference { key, expected, got }) = difference("", &expected, &got) else {
        return Ok(());
    };
    Err(ExportError::Config {
        path,
        key,
        expected,
        got,
    })
}

fn read(path: &Path) -> Result<String, ExportError> {
    let io = ExportError::io("read", path);
    let mut text = String::new();
    let file = File::open(path).map_err(&io)?;
    let bytes = file
        .take(MAX_BYTES + 1)
        .read_to_string(&mut text)
        .map_err(&io)?;
    if bytes as u64 > MAX_BYTES {
        return Err(ExportError::File {
            path: path.to_owned(),
            problem: format!("expected at most {MAX_BYTES} bytes, got more"),
        });
    }
    Ok(text)
}

/// Where two values differ.
#[derive(Debug, PartialEq)]
struct Difference {
    key: String,
    expected: String,
    got: String,
}

/// The first key of `expected` that `got` has not, or has with another value.
fn difference(key: &str, expected: &Value, got: &Value) -> Option<Difference> {
    let differ = |got: String| {
        Some(Difference {
            key: key.to_owned(),
            expected: expected.to_string(),
            got,
        })
    };
    match (expected, got) {
        (Value::Object(expected), Value::Object(got)) => {
            let mut keys = expected.iter();
            keys.find_map(|(name, expected)| {
                let key = if key.is_empty() {
                    name.clone()
                } else {
                    format!("{key}.{name}")
                };
                match got.get(name) {
                    Some(got) => difference(&key, expected, got),
                    None => Some(Difference {
                        key,
                        expected: expected.to_string(),
                        got: "nothing".to_owned(),
                    }),
                }
            })
        }
        (Value::Array(items), Value::Array(others)) if items.len() == others.len() => {
            let pairs = items.iter().zip(others).enumerate();
            pairs.into_iter().find_map(|(place, (item, other))| {
                difference(&format!("{key}[{place}]"), item, other)
            })
        }
        // Other programs write 4.0 as 4.
        (Value::Number(one), Value::Number(other)) if one.as_f64() == other.as_f64() => None,
        _ if expected == got => None,
        _ => differ(got.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(expected: &Value, got: &Value) -> Option<String> {
        difference("", expected, got).map(|difference| difference.key)
    }

    #[test]
    fn the_first_key_that_differs_is_named() {
        let ours = json!({"model": {"network": {"kind": "dit", "ratio": 4.0}, "shape": [1, 8, 8]}, "class_names": ["a", "b"]});
        let mut theirs = ours.clone();
        assert_eq!(found(&ours, &theirs), None);
        theirs["model"]["network"]["ratio"] = json!(4);
        theirs["license"] = json!("mit");
        assert_eq!(
            found(&ours, &theirs),
            None,
            "4 is 4.0, and more keys are nobody's business"
        );
        theirs["model"]["shape"][2] = json!(16);
        assert_eq!(found(&ours, &theirs).unwrap(), "model.shape[2]");
        theirs["model"]["network"]["kind"] = json!("unet");
        assert_eq!(found(&ours, &theirs).unwrap(), "model.network.kind");
        theirs["class_names"] = json!(["a"]);
        assert_eq!(found(&ours, &theirs).unwrap(), "class_names");
        theirs.as_object_mut().unwrap().remove("model");
        assert_eq!(difference("", &ours, &theirs).unwrap().key, "class_names");
        theirs["class_names"] = ours["class_names"].clone();
        assert_eq!(difference("", &ours, &theirs).unwrap().got, "nothing");
    }
}
