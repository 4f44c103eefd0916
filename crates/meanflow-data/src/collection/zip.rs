//! A zip archive of pictures with `dataset.json`, as EDM's tools write it.

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use serde::Deserialize;
use zip::read::ZipFile;
use zip::{CompressionMethod, ZipArchive};

use super::folder::sort_classes;
use super::{Found, Inside, Place, is_hidden, is_picture, refuse_escape, within_file_limit};
use crate::DataError;
use crate::file::{open_regular, refuse_growth};

/// Where labels stand.
const LABELS: &str = "dataset.json";
/// Longest `dataset.json` that is read: that of ImageNet has 50 MB.
const MAX_LABELS: u64 = 256 << 20;
/// Tiny members of zeros are harmless; pictures are compressed already, and labels grow tenfold.
const HARMLESS: u64 = 1 << 16;

#[derive(Deserialize)]
struct Labels {
    labels: Option<Vec<(String, i64)>>,
    #[serde(default)]
    class_names: Option<Vec<String>>,
}

pub(super) fn open(path: &Path) -> Result<Found, DataError> {
    let broken = DataError::archive(path);
    let (file, length) = open_regular(path)?;
    let reader = file.try_clone().map_err(DataError::io(path))?;
    let mut archive = ZipArchive::new(BufReader::new(reader)).map_err(&broken)?;
    if archive.has_duplicate_names() {
        return DataError::refuse(path, 0, "names of members", "each once", "a name twice");
    }
    let mut found = Found::default();
    let mut ranges = Vec::new();
    let mut labels: Option<(usize, String)> = None;
    for index in 0..archive.len() {
        let member = archive.by_index_raw(index).map_err(&broken)?;
        let name = member.name().map_err(&broken)?.into_owned();
        refuse_escape(path, member.header_start(), &name)?;
        if member.is_dir() {
            continue;
        }
        if is_hidden(&name) {
            found.pass(&name);
        } else if name.rsplit('/').next() == Some(LABELS) {
            if let Some((_, other)) = labels.replace((index, name.clone())) {
                let got = format!("{other} and {name}");
                return DataError::refuse(path, 0, "labels", "one dataset.json", got);
            }
        } else if is_picture(&name) {
            let (place, range) = place(path, &name, &member, length)?;
            ranges.push(range);
            found.add(name, place);
        } else {
            found.pass(&name);
        }
    }
    refuse_overlap(path, ranges)?;
    found.entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    match labels {
        Some((index, name)) => {
            let member = archive.by_index(index).map_err(&broken)?;
            read_labels(path, &name, member, &mut found)?;
        }
        None => label_by_folders(&mut found),
    }
    found.archives.push((path.to_owned(), file));
    Ok(found)
}

/// Without labels each folder below the one that all pictures are in is a class, if every picture is in one.
fn label_by_folders(found: &mut Found) {
    let names: Vec<&str> = found.entries.iter().map(|entry| &*entry.name).collect();
    let common = common_folder(&names);
    let class = |name: &&str| {
        let class = name[common..].split_once('/');
        class.map(|(class, _)| class.to_owned())
    };
    let classes: BTreeSet<Option<String>> = names.iter().map(class).collect();
    let Some(mut classes) = classes.into_iter().collect::<Option<Vec<String>>>() else {
        if names.iter().any(|name| class(name).is_some()) {
            let text = "no classes were found: there is no dataset.json, and some pictures lie beside the folders";
            found.remarks.push(text.to_owned());
        }
        return;
    };
    sort_classes(&mut classes, &mut found.remarks);
    let label = |name: &&str| {
        let class = class(name);
        let place = classes.iter().position(|one| Some(one) == class.as_ref());
        place.unwrap_or(0) as i64
    };
    found.labels = names.iter().map(label).collect();
    found.class_names = Some(classes);
}

/// Length of the folders, the last slash included, that all names begin with.
fn common_folder(names: &[&str]) -> usize {
    let Some(first) = names.first() else {
        return 0;
    };
    let shared = |common: usize, name: &&str| {
        let same = first.bytes().zip(name.bytes()).take(common);
        let same = same.take_while(|(a, b)| a == b).count();
        first[..same].rfind('/').map_or(0, |slash| slash + 1)
    };
    names.iter().fold(first.len(), shared)
}

/// Where the picture lies, and the bytes that the member takes, header included.
fn place(
    path: &Path,
    name: &str,
    member: &ZipFile<'_, BufReader<File>>,
    length: u64,
) -> Result<(Place, (u64, u64)), DataError> {
    let file = path.join(name);
    let start = member.header_start();
    let refuse = |field, expected, got: &str| DataError::refuse(&file, start, field, expected, got);
    if member.encrypted() {
        return refuse("member", "no encryption", "an encrypted member");
    }
    if member.is_symlink() {
        return refuse("member", "a file", "a link");
    }
    let deflated = match member.compression() {
        CompressionMethod::Stored => false,
        CompressionMethod::Deflated => true,
        other => return refuse("compression", "none or deflate", &format!("{other:?}")),
    };
    let (stored, size) = (member.compressed_size(), member.size());
    within_file_limit(&file, stored.max(size))?;
    refuse_growth(&file, stored, size, HARMLESS)?;
    let offset = member.data_start().unwrap_or(u64::MAX);
    let end = offset.saturating_add(stored);
    if end > length {
        let expected = format!("at most {length}");
        return DataError::refuse(&file, start, "end of the member", expected, end);
    }
    let inside = Inside {
        deflated,
        size,
        crc32: member.crc32(),
    };
    let place = Place::Part {
        archive: 0,
        offset,
        stored,
        inside: Some(inside),
    };
    Ok((place, (start, end)))
}

/// Refuses members that share bytes: many names for one bomb.
fn refuse_overlap(path: &Path, mut ranges: Vec<(u64, u64)>) -> Result<(), DataError> {
    ranges.sort_unstable();
    let Some(pair) = ranges.windows(2).find(|pair| pair[0].1 > pair[1].0) else {
        return Ok(());
    };
    let expected = format!("a member that begins at {} or later", pair[0].1);
    let got = format!("one at {}", pair[1].0);
    DataError::refuse(path, pair[1].0, "members", expected, got)
}

/// Reads one label for each picture, in their order, or none if the file says so, and the names of classes.
fn read_labels(
    path: &Path,
    name: &str,
    member: ZipFile<'_, BufReader<File>>,
    found: &mut Found,
) -> Result<(), DataError> {
    let file = path.join(name);
    let text = read_text(&file, member)?;
    let refused = |expected: &str, got: String| DataError::field(&file, 0, "labels", expected, got);
    let expected = "{\"labels\": [[\"name\", number], …]} or {\"labels\": null}";
    let parsed: Labels =
        serde_json::from_slice(&text).map_err(|error| refused(expected, error.to_string()))?;
    let Some(pairs) = parsed.labels else {
        return Ok(());
    };
    let folder = name.strip_suffix(LABELS).unwrap_or_default();
    let mut labels: HashMap<&str, i64> = pairs
        .iter()
        .map(|(name, label)| (&**name, *label))
        .collect();
    for entry in &found.entries {
        let name = entry.name.as_str();
        // Names begin where the file lies, or at the top of the archive.
        let own = name.strip_prefix(folder);
        let own = own.and_then(|name| labels.remove(name));
        let missing = || refused("a label for every picture", format!("none for {name}"));
        let label = own.or_else(|| labels.remove(name));
        found.labels.push(label.ok_or_else(missing)?);
    }
    if let Some(first) = labels.keys().min() {
        let count = labels.len();
        let text = format!(
            "{name} names {count} files that are no pictures of the archive, such as {first}"
        );
        found.remarks.push(text);
    }
    found.class_names = parsed.class_names;
    Ok(())
}

/// The text of a member that is no bomb.
fn read_text(file: &Path, member: ZipFile<'_, BufReader<File>>) -> Result<Vec<u8>, DataError> {
    let (stored, size) = (member.compressed_size(), member.size());
    DataError::within(file, "file size in bytes", MAX_LABELS, size)?;
    refuse_growth(file, stored, size, HARMLESS)?;
    let mut text = Vec::new();
    let read = member.take(size + 1).read_to_end(&mut text);
    read.map_err(DataError::io(file))?;
    Ok(text)
}
