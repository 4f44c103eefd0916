//! What the ranks of a sharded evaluation leave for the one that puts it together.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use meanflow_eval::{Named, PartFile};
use meanflow_torch::weights;
use serde_json::Value;

use super::shard::Shard;
use super::tally::Tally;
use crate::failure::Usage;

/// What the metadata of a part says it is.
const FORM: (&str, &str) = ("form", "meanflow-eval-part-1");
/// The key of the metadata that holds the protocol.
const PROTOCOL: &str = "protocol";
/// What ranks may differ in.
const DEVICE: &str = "device";

/// Where the parts of a report in `out` are.
fn folder(out: &Path) -> PathBuf {
    out.join("parts")
}

/// Writes what a rank has drawn, and says where.
pub(super) fn leave(
    out: &Path,
    shard: Shard,
    protocol: &Value,
    tallies: &[Vec<Tally>],
) -> anyhow::Result<PathBuf> {
    let folder = folder(out);
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let path = folder.join(shard.file());
    let tensors: Named = each(tallies)
        .flat_map(|(name, tally)| tally.named(&name))
        .collect();
    let metadata = [
        (FORM.0, FORM.1.to_owned()),
        (PROTOCOL, protocol.to_string()),
    ];
    let metadata = metadata.map(|(key, value)| (key.to_owned(), value));
    weights::save(&path, &tensors, BTreeMap::from(metadata))?;
    Ok(path)
}

/// Puts together the parts of all ranks: of one evaluation, and none missing. The protocol then says how many ranks, and their devices.
pub(super) fn gather(
    out: &Path,
    mut protocol: Value,
    ways: usize,
    repeats: u64,
) -> anyhow::Result<(Value, Vec<Vec<Tally>>)> {
    let folder = folder(out);
    let shards = complete(&folder)?;
    let empty = || (0..repeats).map(|_| Tally::default()).collect();
    let mut tallies: Vec<Vec<Tally>> = (0..ways).map(|_| empty()).collect();
    let mut devices = BTreeSet::new();
    for shard in &shards {
        let path = folder.join(shard.file());
        let (mut file, metadata) = PartFile::read(&path)?;
        devices.extend(checked(&path, &metadata, &protocol)?);
        for (way, repetitions) in tallies.iter_mut().enumerate() {
            for (repeat, tally) in repetitions.iter_mut().enumerate() {
                let next = Tally::take(&mut file, &name(way, repeat))?;
                let shown = || path.display().to_string();
                tally.append(next).with_context(shown)?;
            }
        }
    }
    protocol["ranks"] = shards.len().into();
    if !devices.is_empty() {
        protocol[DEVICE] = Vec::from_iter(devices).join(", ").into();
    }
    Ok((protocol, tallies))
}

/// The shards of which there are files, in order of rank.
fn complete(folder: &Path) -> anyhow::Result<Vec<Shard>> {
    let shown = folder.display();
    let mut found = Vec::new();
    if folder.is_dir() {
        let entries = fs::read_dir(folder).with_context(|| format!("cannot list {shown}"))?;
        for entry in entries {
            found.extend(entry?.file_name().to_str().and_then(Shard::of_file));
        }
    }
    found.sort_by_key(|shard| (shard.world, shard.rank));
    let refuse = |problem: String| Err(Usage(format!("{shown}: {problem}")).into());
    let (Some(first), Some(last)) = (found.first(), found.last()) else {
        return refuse("expected the parts of all ranks, got none".to_owned());
    };
    let world = first.world;
    if last.world != world {
        let other = last.world;
        return refuse(format!(
            "parts of {world} ranks and of {other}; remove those that are old"
        ));
    }
    let missing: Vec<String> = (0..world)
        .map(|rank| Shard { rank, world })
        .filter(|shard| !found.contains(shard))
        .map(Shard::file)
        .collect();
    if !missing.is_empty() {
        return refuse(format!("missing {}", missing.join(", ")));
    }
    Ok(found)
}

/// Refuses a part of another evaluation; else what its rank has drawn on.
fn checked(
    path: &Path,
    metadata: &BTreeMap<String, String>,
    protocol: &Value,
) -> anyhow::Result<Option<String>> {
    let refuse = |problem: String| Err(Usage(format!("{}: {problem}", path.display())).into());
    let form = metadata.get(FORM.0).map_or("none", String::as_str);
    if form != FORM.1 {
        return refuse(format!("expected {} {}, got {form}", FORM.0, FORM.1));
    }
    let text = metadata.get(PROTOCOL).map_or("", String::as_str);
    let theirs = match serde_json::from_str::<BTreeMap<String, Value>>(text) {
        Ok(theirs) => theirs,
        Err(error) => return refuse(format!("{PROTOCOL}: {error}")),
    };
    let ours = protocol.as_object().into_iter().flatten();
    for (key, expected) in ours.filter(|(key, _)| *key != DEVICE) {
        let got = theirs.get(key).unwrap_or(&Value::Null);
        if got != expected {
            return refuse(format!(
                "another evaluation: expected {key} {expected}, got {got}"
            ));
        }
    }
    let device = theirs.get(DEVICE).and_then(Value::as_str);
    Ok(device.map(str::to_owned))
}

/// The name that the tensors of a tally begin with.
fn name(way: usize, repeat: usize) -> String {
    format!("{way}.{repeat}")
}

fn each(tallies: &[Vec<Tally>]) -> impl Iterator<Item = (String, &Tally)> {
    tallies.iter().enumerate().flat_map(|(way, repetitions)| {
        let named = move |(repeat, tally)| (name(way, repeat), tally);
        repetitions.iter().enumerate().map(named)
    })
}
