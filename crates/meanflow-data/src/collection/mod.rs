//! Encoded pictures with their classes, read in place from a folder, a zip archive or tar archives.
//!
//! Opening reads names, places and labels; nothing is decoded and nothing is ever unpacked to the disk. Pictures are
//! the files that end in `.png`, `.jpg` or `.jpeg`, in any case; all others are passed over and counted, and so are the
//! names that begin with a dot and what macOS puts into `__MACOSX`.

mod fingerprint;
mod folder;
mod tar;
mod transparent;
mod zip;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use flate2::read::DeflateDecoder;

use crate::DataError;
use crate::decode::{self, Channels, MAX_FILE, Reading, View};
use crate::file::{open_regular, read_at, read_whole};
use crate::picture::Picture;

pub use folder::Links;
pub(crate) use tar::has_shards;

/// Bytes at the start of a picture in which its header lies, with the chunk of transparency of a palette.
const START: u64 = 1 << 16;

/// An open collection of at least one picture.
#[derive(Debug)]
pub struct ImageArchive {
    /// The folder, or the archive or folder of archives.
    root: PathBuf,
    found: Found,
    classes: usize,
    /// Where classes are looked for in such a collection.
    labels_are: &'static str,
    view: View,
}

/// One encoded picture.
#[derive(Debug)]
struct EncodedPicture {
    /// Its name below the root, or in its archive.
    name: String,
    place: Place,
}

/// Where an encoded picture lies.
#[derive(Clone, Copy, Debug)]
enum Place {
    /// It is a file.
    File,
    /// It is a part of an archive.
    Part {
        /// Which archive.
        archive: usize,
        /// Its first byte there.
        offset: u64,
        /// Bytes there, at most [`MAX_FILE`].
        stored: u64,
        /// Bytes of the picture and their check sum, if they are deflated or the archive says them.
        inside: Option<Inside>,
    },
}

/// What a zip archive says about a member.
#[derive(Clone, Copy, Debug)]
struct Inside {
    deflated: bool,
    size: u64,
    crc32: u32,
}

/// What opening found.
#[derive(Debug, Default)]
struct Found {
    /// The archives that pictures lie in; none for a folder.
    archives: Vec<(PathBuf, File)>,
    entries: Vec<EncodedPicture>,
    /// One a picture, or none at all.
    labels: Vec<i64>,
    class_names: Option<Vec<String>>,
    /// Endings of what was passed over, and how often.
    others: BTreeMap<String, usize>,
    /// What a person should know of how it was read.
    remarks: Vec<String>,
}

impl Found {
    fn add(&mut self, name: String, place: Place) {
        self.entries.push(EncodedPicture { name, place });
    }

    /// Counts a file or member that is passed over.
    fn pass(&mut self, name: &str) {
        let base = name.rsplit_once('/').map_or(name, |(_, base)| base);
        let end = match base.rsplit_once('.') {
            Some((stem, end)) if !stem.is_empty() && end.len() < 10 => format!(".{end}"),
            _ => base.to_owned(),
        };
        *self.others.entry(end.to_ascii_lowercase()).or_default() += 1;
    }
}

impl ImageArchive {
    /// Opens a folder of pictures, in which links may lead to what is inside of it.
    ///
    /// With folders in it, each is a class: the classes are numbered by the order of their names, or by their numbers
    /// if all names are numbers, and have the pictures below them at any depth. Without, its pictures have no class.
    /// The order of pictures is that of their classes, then of their names, as torchvision's `ImageFolder` has it.
    ///
    /// # Errors
    /// [`DataError::Io`]; [`DataError::Field`] for no picture, a class without any, pictures beside the
    /// classes, a name that is not UTF-8, a link that leads out of the folder, a pipe or device, or folders deeper
    /// than 16.
    pub fn open_folder(root: &Path) -> Result<Self, DataError> {
        Self::open_folder_by(root, Links::Inside)
    }

    /// As [`ImageArchive::open_folder`], with links as they are allowed.
    ///
    /// # Errors
    /// As [`ImageArchive::open_folder`].
    pub fn open_folder_by(root: &Path, links: Links) -> Result<Self, DataError> {
        if root.is_file() {
            let hint = "a file (`kind = \"zip\"` reads zip archives, `\"tar\"` tar archives)";
            return DataError::refuse(root, 0, "kind of data", "a folder of pictures", hint);
        }
        let labels_are = "a folder for each class";
        Self::new(root, folder::open(root, links)?, labels_are)
    }

    /// Opens a zip archive of pictures in EDM's layout: `dataset.json` holds `{"labels": [["name", 3], …]}` with one
    /// pair for every picture, named from where the file lies or from the top; with `"labels": null` there are no
    /// classes. The names of the classes stand under `class_names`, if anywhere. Without `dataset.json` each folder is
    /// a class, as in [`ImageArchive::open_folder`], below the folder that all pictures are in.
    ///
    /// Pictures are in the order of their names. Their number of classes is the largest label plus one.
    ///
    /// # Errors
    /// [`DataError::Archive`] for a broken archive; [`DataError::Field`] for an encrypted member, another compression
    /// than deflate, a name twice, absolute or with `..`, members that overlap, and labels that are not as described;
    /// [`DataError::Limit`] for a picture above [`MAX_FILE`] or a member that inflates to more than 200 times its size.
    pub fn open_zip(path: &Path) -> Result<Self, DataError> {
        if path.is_dir() {
            let hint = "a folder (`kind = \"folder\"` reads pictures in folders, `\"tar\"` folders of tar archives)";
            return DataError::refuse(path, 0, "kind of data", "a zip archive", hint);
        }
        let labels_are = "`dataset.json` in the archive, or a folder for each class";
        Self::new(path, zip::open(path)?, labels_are)
    }

    /// Opens a tar archive in WebDataset's layout, or a folder of them (`*.tar`, in the order of their names).
    ///
    /// A sample is the members in a row whose names agree up to the first dot behind the last slash: the picture
    /// `KEY.png`, `KEY.jpg` or `KEY.jpeg` and its class `KEY.cls`, a number in text; either all have one or none. More
    /// parts may stand between (`KEY.image.jpg`, `KEY.label.cls`), and `.txt` behind `.cls`. The order is that of the
    /// archives. The number of classes is the largest label plus one.
    ///
    /// # Errors
    /// [`DataError::Io`]; [`DataError::Field`] for a header that is damaged, a link, a device or a sparse file, a name
    /// that is absolute or has `..`, a key twice, two pictures in one sample, some samples without a class;
    /// [`DataError::Length`] for an archive that is cut short; [`DataError::Limit`] for a picture above [`MAX_FILE`].
    pub fn open_tar(path: &Path) -> Result<Self, DataError> {
        let labels_are = "`KEY.cls` beside each picture in the archive";
        Self::new(path, tar::open(path)?, labels_are)
    }

    /// Opens one encoded picture, which has no class.
    ///
    /// # Errors
    /// [`DataError::Field`] for a path without a name in UTF-8.
    pub fn open_picture(path: &Path) -> Result<Self, DataError> {
        let name = path.file_name().and_then(|name| name.to_str());
        let name = name.ok_or_else(|| {
            let got = path.to_string_lossy();
            DataError::field(path, 0, "name", "a file name in UTF-8", got)
        })?;
        let mut found = Found::default();
        found.add(name.to_owned(), Place::File);
        let folder = path.parent().unwrap_or(Path::new(""));
        Self::new(folder, found, "a folder for each class")
    }

    fn new(root: &Path, found: Found, labels_are: &'static str) -> Result<Self, DataError> {
        if found.entries.is_empty() {
            let got = nothing_but(&found.others);
            let expected = "at least one .png, .jpg or .jpeg";
            return DataError::refuse(root, 0, "pictures", expected, got);
        }
        let most = i64::try_from(found.entries.len()).unwrap_or(i64::MAX);
        // Labels far above the number of pictures are something else than classes.
        let limit = most.saturating_mul(1000).max(1_000_000);
        if let Some(label) = found.labels.iter().find(|&&l| !(0..limit).contains(&l)) {
            return DataError::refuse(root, 0, "label", format!("0..{limit}"), label);
        }
        let largest = classes_of(&found.labels);
        let classes = found.class_names.as_ref().map_or(largest, Vec::len);
        if classes < largest {
            let expected = format!("{largest} or more");
            return DataError::refuse(root, 0, "class_names", expected, classes);
        }
        Ok(Self {
            root: root.to_owned(),
            found,
            classes,
            labels_are,
            view: View::default(),
        })
    }

    /// The same pictures, looked at in this way by everything that decodes them.
    #[must_use]
    pub fn viewed(mut self, view: View) -> Self {
        self.view = view;
        self
    }

    /// How the pictures are looked at.
    pub fn view(&self) -> View {
        self.view
    }

    /// Number of pictures, at least one.
    #[expect(clippy::len_without_is_empty, reason = "a collection is never empty")]
    pub fn len(&self) -> usize {
        self.found.entries.len()
    }

    /// Number of classes; 0 when the pictures have none.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// The class of every picture; empty when there are none.
    pub fn labels(&self) -> &[i64] {
        &self.found.labels
    }

    /// Where classes are looked for in such a collection, for messages.
    pub fn labels_are(&self) -> &'static str {
        self.labels_are
    }

    /// What a person should know of how the collection was read, a sentence each.
    pub fn remarks(&self) -> &[String] {
        &self.found.remarks
    }

    /// The names of the classes, where folders or the archive have them.
    pub fn class_names(&self) -> Option<&[String]> {
        self.found.class_names.as_deref()
    }

    /// Files or members that are no pictures and were passed over.
    pub fn ignored(&self) -> usize {
        self.found.others.values().sum()
    }

    /// The endings of what was passed over, and how often each.
    pub fn others(&self) -> &BTreeMap<String, usize> {
        &self.found.others
    }

    /// The name of a picture below the folder, or in its archive.
    ///
    /// # Panics
    /// When the index is not below [`ImageArchive::len`].
    pub fn name(&self, index: usize) -> &str {
        &self.found.entries[index].name
    }

    /// Where a picture is, for messages: `folder/name` or `archive.zip/name`.
    ///
    /// # Panics
    /// When the index is not below [`ImageArchive::len`].
    pub fn path(&self, index: usize) -> PathBuf {
        let EncodedPicture { name, place } = &self.found.entries[index];
        match place {
            Place::File => self.root.join(name),
            Place::Part { archive, .. } => self.found.archives[*archive].0.join(name),
        }
    }

    /// The encoded picture.
    ///
    /// # Errors
    /// [`DataError::Io`]; [`DataError::Limit`] above [`MAX_FILE`]; [`DataError::Decode`] for a member of a zip archive
    /// that is not as long or has not the check sum as the archive says.
    ///
    /// # Panics
    /// When the index is not below [`ImageArchive::len`].
    pub fn read(&self, index: usize) -> Result<Vec<u8>, DataError> {
        let path = self.path(index);
        let place = self.found.entries[index].place;
        let Place::Part { stored, inside, .. } = place else {
            return read_whole(&path, MAX_FILE);
        };
        let bytes = self.read_part(place, &path, stored)?;
        match inside {
            Some(inside) => inside.open(&path, bytes),
            None => Ok(bytes),
        }
    }

    /// The first `size` bytes that lie in this place, or all of a file that is shorter.
    fn read_part(&self, place: Place, path: &Path, size: u64) -> Result<Vec<u8>, DataError> {
        if let Place::Part {
            archive, offset, ..
        } = place
        {
            return read_at(&self.found.archives[archive].1, path, offset, size);
        }
        let (mut bytes, (file, _)) = (Vec::new(), open_regular(path)?);
        let read = file.take(size).read_to_end(&mut bytes);
        read.map(|_| bytes).map_err(DataError::io(path))
    }

    /// Bytes of an encoded picture, without reading it.
    pub(crate) fn size(&self, index: usize) -> Result<u64, DataError> {
        if let Place::Part { stored, inside, .. } = self.found.entries[index].place {
            return Ok(inside.map_or(stored, |inside| inside.size));
        }
        let path = self.path(index);
        let metadata = fs::metadata(&path).map_err(DataError::io(&path))?;
        Ok(metadata.len())
    }

    /// The first bytes of an encoded picture, in which its header lies, or all.
    pub(crate) fn read_start(&self, index: usize) -> Result<Vec<u8>, DataError> {
        match self.found.entries[index].place {
            Place::Part {
                inside: Some(Inside { deflated: true, .. }),
                ..
            } => self.read(index),
            place @ Place::Part { stored, .. } => {
                self.read_part(place, &self.path(index), stored.min(START))
            }
            place @ Place::File => self.read_part(place, &self.path(index), START),
        }
    }

    /// The decoded picture, at its own size.
    ///
    /// # Errors
    /// As [`ImageArchive::read`] and [`decode::decode`].
    ///
    /// # Panics
    /// When the index is not below [`ImageArchive::len`].
    pub fn decode(&self, index: usize, channels: Channels) -> Result<Picture, DataError> {
        let view = self.view;
        let reading = Reading { channels, view };
        decode::decode(&self.path(index), &self.read(index)?, reading)
    }
}

impl Inside {
    /// The picture inside of the bytes of a member: exactly as much as was promised is inflated.
    fn open(self, path: &Path, bytes: Vec<u8>) -> Result<Vec<u8>, DataError> {
        let bytes = if self.deflated {
            let mut inflated = Vec::new();
            DeflateDecoder::new(&bytes[..])
                .take(self.size + 1)
                .read_to_end(&mut inflated)
                .map_err(DataError::io(path))?;
            inflated
        } else {
            bytes
        };
        let Self { size, crc32, .. } = self;
        if bytes.len() as u64 != size {
            let reason = format!("the member is not of the {size} bytes promised");
            return Err(DataError::decode(path, reason));
        }
        let found = crc32fast::hash(&bytes);
        if found == crc32 {
            return Ok(bytes);
        }
        let reason = format!("check sum: expected {crc32:08x}, got {found:08x}");
        Err(DataError::decode(path, reason))
    }
}

/// Refuses an encoded picture that is too long.
fn within_file_limit(path: &Path, size: u64) -> Result<(), DataError> {
    DataError::within(path, "file size in bytes", MAX_FILE, size)
}

/// As many classes as the largest label needs.
pub(crate) fn classes_of(labels: &[i64]) -> usize {
    labels.iter().max().map_or(0, |&label| label as usize + 1)
}

/// Whether a name is that of a picture.
fn is_picture(name: &str) -> bool {
    let end = name.rsplit_once('.').map_or("", |(_, end)| end);
    ["png", "jpg", "jpeg"]
        .iter()
        .any(|picture| end.eq_ignore_ascii_case(picture))
}

/// Whether a name is hidden, or made by macOS beside a file: in an archive of pictures nobody means such members.
fn is_hidden(name: &str) -> bool {
    let mut parts = name.split('/').filter(|part| !matches!(*part, "" | "."));
    parts.any(|part| part.starts_with('.') || part == "__MACOSX")
}

/// What was found where no picture was.
fn nothing_but(others: &BTreeMap<String, usize>) -> String {
    let mut listed: Vec<_> = others.iter().collect();
    listed.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    let listed: Vec<String> = listed
        .iter()
        .take(5)
        .map(|(end, count)| format!("{count} × {end}"))
        .collect();
    if listed.is_empty() {
        return "none".to_owned();
    }
    format!("none, but other files: {}", listed.join(", "))
}

/// Refuses the name of a member that leads out of its archive, or could on some system.
fn refuse_escape(archive: &Path, offset: u64, name: &str) -> Result<(), DataError> {
    let is_bad = name.starts_with('/')
        || name.contains(['\\', '\0'])
        || name.as_bytes().get(1) == Some(&b':')
        || name.split('/').any(|part| part == "..");
    if !is_bad {
        return Ok(());
    }
    let (field, expected) = ("name of a member", "a relative name without `..`");
    DataError::refuse(archive, offset, field, expected, name.escape_debug())
}
