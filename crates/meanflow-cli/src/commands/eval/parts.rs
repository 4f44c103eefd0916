//! What the ranks of a sharded evaluation leave for the one that puts it together.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use meanflow_eval::{Evaluation, Named, PartFile, RepetitionState};
use meanflow_torch::{Shard, weights};
use serde_json::Value;

use super::protocol::DEVICE;
use crate::usage::Usage;

/// What the metadata of a part says it is.
const FORM: (&str, &str) = ("form", "meanflow-eval-part-2");
/// The key of the metadata that holds the protocol.
const PROTOCOL: &str = "protocol";

/// Where the parts of a report in `out` are.
fn folder(out: &Path) -> PathBuf {
    out.join("parts")
}

/// Writes what a rank has drawn, repetition by repetition of every sampler, and says where.
pub(super) fn leave(
    out: &Path,
    shard: Shard,
    protocol: &Value,
    states: &[Vec<RepetitionState>],
) -> anyhow::Result<PathBuf> {
    let folder = folder(out);
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let path = folder.join(shard.file());
    let mut tensors = Named::new();
    for (sampler, repetitions) in states.iter().enumerate() {
        for (repeat, state) in repetitions.iter().enumerate() {
            tensors.extend(state.state(&name(sampler, repeat as u64)));
        }
    }
    let metadata = [
        (FORM.0, FORM.1.to_owned()),
        (PROTOCOL, protocol.to_string()),
    ];
    let metadata = metadata.map(|(key, value)| (key.to_owned(), value));
    weights::save(&path, &tensors, BTreeMap::from(metadata))?;
    Ok(path)
}

/// The parts of all ranks: of one evaluation, and none missing.
pub(super) struct Parts(Vec<(PathBuf, PartFile)>);

impl Parts {
    /// Opens them. The protocol then says how many ranks, and their devices.
    pub(super) fn open(out: &Path, protocol: &mut Value) -> anyhow::Result<Self> {
        let folder = folder(out);
        let mut devices = BTreeSet::new();
        let mut parts = Vec::new();
        for shard in complete(&folder)? {
            let path = folder.join(shard.file());
            let (file, metadata) = PartFile::read(&path)?;
            devices.extend(checked(&path, &metadata, protocol)?);
            parts.push((path, file));
        }
        protocol["ranks"] = parts.len().into();
        if !devices.is_empty() {
            protocol[DEVICE] = Vec::from_iter(devices).join(", ").into();
        }
        Ok(Self(parts))
    }

    /// The state of one repetition, of all ranks together.
    pub(super) fn state(
        &mut self,
        evaluation: &Evaluation<'_>,
        sampler: usize,
        repeat: u64,
    ) -> anyhow::Result<RepetitionState> {
        let mut state = evaluation.empty()?;
        for (path, file) in &mut self.0 {
            let shown = || path.display().to_string();
            state
                .merge(file, &name(sampler, repeat))
                .with_context(shown)?;
        }
        Ok(state)
    }
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
    found.sort_by_key(|shard| (shard.world(), shard.rank()));
    let refuse = |problem: String| Err(Usage(format!("{shown}: {problem}")).into());
    let (Some(first), Some(last)) = (found.first(), found.last()) else {
        return refuse("expected the parts of all ranks, got none".to_owned());
    };
    let (world, other) = (first.world(), last.world());
    if world != other {
        return refuse(format!(
            "parts of {world} ranks and of {other}; remove those that are old"
        ));
    }
    let missing: Vec<String> = (0..world)
        .filter_map(|rank| Shard::new(rank, world))
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
    for (key, expected) in ours.filter(|(key, _)| *key != DEVICE && *key != "ranks") {
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

/// The name that the tensors of a repetition begin with.
fn name(sampler: usize, repeat: u64) -> String {
    format!("{sampler}.{repeat}")
}
