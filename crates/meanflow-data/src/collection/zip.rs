//! A zip archive of pictures with `dataset.json`, as EDM's tools write it.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use serde::Deserialize;
use zip::read::ZipFile;
use zip::result::ZipError;
use zip::{CompressionMethod, ZipArchive};

use super::{Entry, Found, Inside, Place, is_picture, refuse_escape, within_file_limit};
use crate::DataError;

/// Where labels stand.
const LABELS: &str = "dataset.json";
/// Longest `dataset.json` that is read: that of ImageNet has 50 MB.
const MAX_LABELS: u64 = 256 << 20;
/// Most that a member may grow by when it is inflated. Pictures are compressed already, and labels grow tenfold.
const MAX_RATIO: u64 = 200;

#[derive(Deserialize)]
struct Labels {
    labels: Option<Vec<(String, i64)>>,
}

pub(super) fn open(path: &Path) -> Result<Found, DataError> {
    let broken = |source: ZipError| DataError::Archive {
        file: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(DataError::io(path))?;
    let length = file.metadata().map_err(DataError::io(path))?.len();
    let reader = file.try_clone().map_err(DataError::io(path))?;
    let mut archive = ZipArchive::new(BufReader::new(reader)).map_err(broken)?;
    if archive.has_duplicate_names() {
        let (field, expected) = ("names of members", "each once");
        return Err(DataError::field(path, 0, field, expected, "a name twice"));
    }
    let mut found = Found::default();
    let mut ranges = Vec::new();
    let mut labels = None;
    for index in 0..archive.len() {
        let member = archive.by_index_raw(index).map_err(broken)?;
        let name = member.name().map_err(broken)?.into_owned();
        refuse_escape(path, member.header_start(), &name)?;
        if member.is_dir() {
            continue;
        }
        if name == LABELS {
            labels = Some(index);
        }
        let wanted = is_picture(&name);
        if !wanted {
            found.ignored += usize::from(name != LABELS);
            continue;
        }
        let (place, range) = place(path, &name, &member, length)?;
        ranges.push(range);
        found.entries.push(Entry { name, place });
    }
    refuse_overlap(path, ranges)?;
    found.entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    if let Some(index) = labels {
        let member = archive.by_index(index).map_err(broken)?;
        found.labels = read_labels(path, member, &found.entries)?;
    }
    found.archives.push((path.to_owned(), file));
    Ok(found)
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
    let refuse =
        |field, expected: &str, got| Err(DataError::field(&file, start, field, expected, got));
    if member.encrypted() {
        return refuse("member", "no encryption", "an encrypted member".to_owned());
    }
    if member.is_symlink() {
        return refuse("member", "a file", "a link".to_owned());
    }
    let deflated = match member.compression() {
        CompressionMethod::Stored => false,
        CompressionMethod::Deflated => true,
        other => return refuse("compression", "none or deflate", format!("{other:?}")),
    };
    let (stored, size) = (member.compressed_size(), member.size());
    within_file_limit(&file, stored.max(size))?;
    refuse_ratio(&file, stored, size)?;
    let offset = member.data_start().unwrap_or(u64::MAX);
    let end = offset.saturating_add(stored);
    if end > length {
        let expected = format!("at most {length}");
        return refuse("end of the member", &expected, end.to_string());
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

/// Refuses a member that promises far more than is stored.
fn refuse_ratio(file: &Path, stored: u64, size: u64) -> Result<(), DataError> {
    // Tiny members of zeros are harmless.
    let limit = stored.saturating_mul(MAX_RATIO).max(1 << 16);
    if size <= limit {
        return Ok(());
    }
    Err(DataError::Limit {
        file: file.to_owned(),
        what: "inflated size in bytes",
        limit,
        got: size.into(),
    })
}

/// Refuses members that share bytes: many names for one bomb.
fn refuse_overlap(path: &Path, mut ranges: Vec<(u64, u64)>) -> Result<(), DataError> {
    ranges.sort_unstable();
    let Some(pair) = ranges.windows(2).find(|pair| pair[0].1 > pair[1].0) else {
        return Ok(());
    };
    let expected = format!("a member that begins at {} or later", pair[0].1);
    let got = format!("one at {}", pair[1].0);
    Err(DataError::field(path, pair[1].0, "members", expected, got))
}

/// One label for each picture, in their order; none if the file says so.
fn read_labels(
    path: &Path,
    member: ZipFile<'_, BufReader<File>>,
    entries: &[Entry],
) -> Result<Vec<i64>, DataError> {
    let file = path.join(LABELS);
    let (stored, size) = (member.compressed_size(), member.size());
    if size > MAX_LABELS {
        return Err(DataError::Limit {
            file,
            what: "file size in bytes",
            limit: MAX_LABELS,
            got: size.into(),
        });
    }
    refuse_ratio(&file, stored, size)?;
    let mut text = Vec::new();
    member
        .take(size + 1)
        .read_to_end(&mut text)
        .map_err(DataError::io(&file))?;
    let refused = |expected: &str, got: String| DataError::field(&file, 0, "labels", expected, got);
    let expected = "{\"labels\": [[\"name\", number], …]} or {\"labels\": null}";
    let parsed: Labels =
        serde_json::from_slice(&text).map_err(|error| refused(expected, error.to_string()))?;
    let Some(pairs) = parsed.labels else {
        return Ok(Vec::new());
    };
    let labels: HashMap<&str, i64> = pairs
        .iter()
        .map(|(name, label)| (&**name, *label))
        .collect();
    let label = |entry: &Entry| {
        let label = labels.get(entry.name.as_str()).copied();
        label.ok_or_else(|| {
            refused(
                "a label for every picture",
                format!("none for {}", entry.name),
            )
        })
    };
    entries.iter().map(label).collect()
}
