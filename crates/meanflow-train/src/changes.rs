//! Whether a run may go on with another recipe than it was begun with.

use std::collections::BTreeMap;

use toml::{Table, Value};

use crate::config::{LrConfig, TrainConfig};

/// Keys that decide when something is written or drawn or waited for, how fast, or how memory is saved, and nothing about
/// the weights.
const HARMLESS: [&str; 10] = [
    "checkpoints",
    "compute.async_metrics",
    "compute.activation_checkpointing",
    "training.checkpoint_every",
    "training.sample_every",
    "training.log_every",
    "training.num_workers",
    "sampling",
    // Where the data lie, not what they are: a run knows them by their hash.
    "data.path",
    "data.follow_links",
];

/// One line for every key that differs between the recipe a run was begun with and the present one, among those
/// that change the weights. More steps change nothing under a constant rate.
pub fn recipe_changes(before: &str, now: &TrainConfig) -> Vec<String> {
    differing(before, now)
        .into_iter()
        .map(|change| change.line)
        .collect()
}

/// A key that differs.
pub(crate) struct Difference {
    /// Its dotted name.
    pub(crate) key: String,
    /// The key, what it was and what it is.
    pub(crate) line: String,
}

/// As [`recipe_changes`], key by key.
pub(crate) fn differing(before: &str, now: &TrainConfig) -> Vec<Difference> {
    let before = flat(&before.parse().unwrap_or_default());
    let present = flat(&now.to_table());
    let constant = matches!(now.lr, LrConfig::Constant { .. });
    let matters = |key: &str| {
        let harmless = HARMLESS
            .iter()
            .any(|name| key == *name || key.starts_with(&format!("{name}.")));
        !(harmless || constant && key == "training.steps")
    };
    let mut keys: Vec<&String> = before
        .keys()
        .chain(present.keys())
        .filter(|key| matters(key))
        .collect();
    keys.sort_unstable();
    keys.dedup();
    let shown = |value: Option<&String>| value.map_or("nothing", String::as_str).to_owned();
    keys.into_iter()
        .filter(|key| before.get(*key) != present.get(*key))
        .map(|key| Difference {
            key: key.clone(),
            line: format!(
                "  {key}: was {}, is {}",
                shown(before.get(key)),
                shown(present.get(key))
            ),
        })
        .collect()
}

/// Every value under its dotted key, as text.
fn flat(table: &Table) -> BTreeMap<String, String> {
    fn walk(prefix: &str, table: &Table, out: &mut BTreeMap<String, String>) {
        for (key, value) in table {
            let path = if prefix.is_empty() {
                key.clone()
            } else {
                format!("{prefix}.{key}")
            };
            match value {
                Value::Table(inner) => walk(&path, inner, out),
                value => drop(out.insert(path, value.to_string())),
            }
        }
    }
    let mut out = BTreeMap::new();
    walk("", table, &mut out);
    out
}
