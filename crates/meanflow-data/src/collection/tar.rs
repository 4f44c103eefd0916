//! Tar archives in WebDataset's layout: an index of their headers, and pictures read at their places.

use std::collections::HashSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use tar::{EntryType, Header, PaxExtensions};

use super::{
    EncodedPicture, Found, Place, is_hidden, is_picture, refuse_escape, within_file_limit,
};
use crate::DataError;
use crate::file::{open_regular, read_at};

/// Archives are made of blocks of this length.
const BLOCK: u64 = 512;
/// Longest name that is read, in a member of its own.
const MAX_NAME: u64 = 1 << 16;
/// Longest `.cls`: digits, and perhaps a newline.
const MAX_LABEL: u64 = 32;

/// Reads the headers of one archive, or of all in a folder.
pub(super) fn open(path: &Path) -> Result<Found, DataError> {
    let mut index = Index::default();
    for path in archives(path)? {
        let (file, length) = open_regular(&path)?;
        let scan = Scan {
            path: &path,
            file: &file,
            length,
        };
        scan.run(&mut index)?;
        index.finish(&path)?;
        index.found.archives.push((path, file));
    }
    if let Some(name) = index.near_miss.filter(|_| index.found.labels.is_empty()) {
        index.found.remarks.push(format!(
            "no classes were found: they are read from `KEY.cls` beside each picture, and {name} was passed over"
        ));
    }
    Ok(index.found)
}

/// Whether there are archives in a folder.
pub(crate) fn has_shards(folder: &Path) -> Result<bool, DataError> {
    Ok(!archives(folder)?.is_empty())
}

fn archives(path: &Path) -> Result<Vec<PathBuf>, DataError> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut archives = Vec::new();
    for entry in fs::read_dir(path).map_err(DataError::io(path))? {
        let file = entry.map_err(DataError::io(path))?.path();
        if is_archive(&file) {
            archives.push(file);
        }
    }
    archives.sort_unstable();
    Ok(archives)
}

/// Whether a file in a folder of shards is one: by its ending, in any case; hidden ones are not.
fn is_archive(file: &Path) -> bool {
    let hidden = file
        .file_name()
        .is_none_or(|name| name.to_string_lossy().starts_with('.'));
    let end = file.extension();
    !hidden && end.is_some_and(|end| end.eq_ignore_ascii_case("tar")) && file.is_file()
}

/// What all archives hold, sample by sample.
#[derive(Default)]
struct Index {
    found: Found,
    keys: HashSet<String>,
    sample: Sample,
    unlabeled: Option<String>,
    /// A member that looks like a label and was passed over.
    near_miss: Option<String>,
}

/// The sample whose members are being read.
#[derive(Default)]
struct Sample {
    key: Option<String>,
    picture: Option<EncodedPicture>,
    label: Option<i64>,
}

impl Index {
    /// Takes a member in.
    fn add(&mut self, scan: &Scan<'_>, name: String, at: u64, size: u64) -> Result<(), DataError> {
        if is_hidden(&name) {
            self.found.pass(&name);
            return Ok(());
        }
        let (folder, base) = name.rsplit_once('/').map_or(("", &*name), |(f, b)| (f, b));
        let (stem, end) = base.split_once('.').unwrap_or((base, ""));
        let key = format!("{folder}/{stem}");
        if self.sample.key.as_ref() != Some(&key) {
            self.finish(scan.path)?;
            self.sample.key = Some(key);
        }
        if is_picture(base) {
            within_file_limit(&scan.path.join(&name), size)?;
            if self.sample.picture.is_some() {
                return Err(scan.refuse(at, "sample", "one picture", &name));
            }
            let place = Place::Part {
                archive: self.found.archives.len(),
                offset: at,
                stored: size,
                inside: None,
            };
            self.sample.picture = Some(EncodedPicture { name, place });
        } else if is_label(end) {
            if self.sample.label.is_some() {
                return Err(scan.refuse(at, "sample", "one .cls", &name));
            }
            let text = scan.bytes(at, size, MAX_LABEL, "size of a label in bytes")?;
            let text = String::from_utf8_lossy(&text);
            let label = text.trim().parse();
            let label = label.map_err(|_| scan.refuse(at, "label", "a number in text", &text))?;
            self.sample.label = Some(label);
        } else {
            let mut words = ["cls", "class", "label", "json"].iter();
            if self.near_miss.is_none() && words.any(|word| end.contains(word)) {
                self.near_miss = Some(name.clone());
            }
            self.found.pass(&name);
        }
        Ok(())
    }

    /// Ends the sample.
    fn finish(&mut self, path: &Path) -> Result<(), DataError> {
        let Sample {
            key: Some(key),
            picture: Some(picture),
            label,
        } = std::mem::take(&mut self.sample)
        else {
            return Ok(());
        };
        let refuse = |field, expected: &str, got: &str| {
            DataError::refuse(path, 0, field, expected, got.escape_debug())
        };
        match label {
            Some(label) => self.found.labels.push(label),
            None => self.unlabeled = Some(picture.name.clone()),
        }
        let unlabeled = self.unlabeled.as_ref();
        if let Some(name) = unlabeled.filter(|_| !self.found.labels.is_empty()) {
            return refuse("labels", "a .cls for every picture or for none", name);
        }
        self.found.entries.push(picture);
        if self.keys.insert(key.clone()) {
            return Ok(());
        }
        refuse("key of a sample", "each once", &key)
    }
}

/// Whether a member with this ending, all behind the key, is a class: `cls`, with any parts before and `.txt` behind.
fn is_label(end: &str) -> bool {
    let end = end.to_ascii_lowercase();
    let end = end.strip_suffix(".txt").unwrap_or(&end);
    end.rsplit('.').next() == Some("cls")
}

/// One archive while its headers are read.
struct Scan<'a> {
    path: &'a Path,
    file: &'a File,
    length: u64,
}

impl Scan<'_> {
    /// Goes from header to header until the block of zeros that ends an archive.
    fn run(&self, index: &mut Index) -> Result<(), DataError> {
        let mut at = 0;
        let mut long_name = None;
        loop {
            let header = self.header(at)?;
            if header.as_bytes().iter().all(|&byte| byte == 0) {
                return Ok(());
            }
            let size = self.check(at, &header)?;
            let content = at + BLOCK;
            let kind = header.entry_type();
            match kind {
                EntryType::GNULongName | EntryType::XHeader => {
                    let bytes = self.bytes(content, size, MAX_NAME, "size of a name in bytes")?;
                    let name = if kind == EntryType::XHeader {
                        self.extended_name(at, &bytes)?
                    } else {
                        Some(bytes.strip_suffix(&[0]).unwrap_or(&bytes).to_vec())
                    };
                    long_name = name.or(long_name);
                }
                EntryType::XGlobalHeader => {}
                EntryType::Directory => long_name = None,
                EntryType::Regular => {
                    let name = long_name
                        .take()
                        .unwrap_or_else(|| header.path_bytes().to_vec());
                    let name = String::from_utf8(name).map_err(|error| {
                        let name = error.as_bytes().escape_ascii().to_string();
                        self.refuse(at, "name of a member", "UTF-8", &name)
                    })?;
                    refuse_escape(self.path, at, &name)?;
                    index.add(self, name, content, size)?;
                }
                other => {
                    let got = format!("{other:?}");
                    return Err(self.refuse(at + 156, "kind of a member", "a file", &got));
                }
            }
            at = content + size.next_multiple_of(BLOCK);
        }
    }

    fn header(&self, at: u64) -> Result<Header, DataError> {
        let mut header = Header::new_old();
        if at + BLOCK > self.length {
            let part = "the next header, or zeros at the end";
            return Err(DataError::length(self.path, part, at + BLOCK, self.length));
        }
        let bytes = read_at(self.file, self.path, at, BLOCK)?;
        header.as_mut_bytes().copy_from_slice(&bytes);
        Ok(header)
    }

    /// The size of a member whose header and length are right.
    fn check(&self, at: u64, header: &Header) -> Result<u64, DataError> {
        let bytes = header.as_bytes();
        let sum = |bytes: &[u8]| bytes.iter().map(|&byte| u32::from(byte)).sum::<u32>();
        // The check sum counts itself as spaces.
        let found = sum(&bytes[..148]) + 8 * u32::from(b' ') + sum(&bytes[156..]);
        if at == 0 && bytes.starts_with(b"PK\x03\x04") {
            let got = "a zip archive, which the kind zip reads";
            return Err(self.refuse(at, "kind of data", "a tar archive", got));
        }
        if header.cksum().ok() != Some(found) {
            let got = bytes[148..156].escape_ascii().to_string();
            return Err(self.refuse(at + 148, "check sum", &format!("{found:o}"), &got));
        }
        let size = header.entry_size().ok();
        let left = self.length - at - BLOCK;
        size.filter(|&size| size <= left).ok_or_else(|| {
            let got = size.map_or("no number".to_owned(), |size| size.to_string());
            let expected = format!("at most {left}, which are left");
            self.refuse(at + 124, "size", &expected, &got)
        })
    }

    /// `size` bytes at a place inside of the archive, if they are not more than `limit`.
    fn bytes(
        &self,
        at: u64,
        size: u64,
        limit: u64,
        what: &'static str,
    ) -> Result<Vec<u8>, DataError> {
        DataError::within(self.path, what, limit, size)?;
        read_at(self.file, self.path, at, size)
    }

    /// The name in an extended header, which may change nothing about where members lie.
    fn extended_name(&self, at: u64, bytes: &[u8]) -> Result<Option<Vec<u8>>, DataError> {
        let mut name = None;
        for record in PaxExtensions::new(bytes) {
            let record = record.map_err(DataError::io(self.path))?;
            match record.key_bytes() {
                b"path" => name = Some(record.value_bytes().to_vec()),
                key if key == b"size" || key.starts_with(b"GNU.sparse") => {
                    let key = key.escape_ascii().to_string();
                    return Err(self.refuse(at, "extended header", "no size of its own", &key));
                }
                _ => {}
            }
        }
        Ok(name)
    }

    fn refuse(&self, at: u64, field: &'static str, expected: &str, got: &str) -> DataError {
        DataError::field(self.path, at, field, expected, got.escape_debug())
    }
}
