//! Encoded pictures with their classes, read in place from a folder, a zip archive or tar archives.
//!
//! Opening reads names, places and labels; nothing is decoded and nothing is ever unpacked to the disk. Pictures are
//! the files that end in `.png`, `.jpg` or `.jpeg`, in any case; all others are passed over and counted.

mod folder;
mod tar;
mod zip;

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use flate2::read::DeflateDecoder;

use crate::DataError;
use crate::decode::{self, Channels, MAX_FILE};
use crate::picture::Picture;
use crate::read_at::read_at;

/// An open collection of at least one picture.
#[derive(Debug)]
pub struct Collection {
    /// The folder, or the archive or folder of archives.
    root: PathBuf,
    /// The archives that pictures lie in; none for a folder.
    archives: Vec<(PathBuf, File)>,
    entries: Vec<Entry>,
    labels: Vec<i64>,
    classes: usize,
    class_names: Option<Vec<String>>,
    ignored: usize,
}

/// One encoded picture.
#[derive(Debug)]
struct Entry {
    /// Its name below the root, or in its archive.
    name: String,
    place: Place,
}

/// Where an encoded picture lies.
#[derive(Debug)]
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

/// What opening found, before it is checked as a whole.
#[derive(Debug, Default)]
struct Found {
    archives: Vec<(PathBuf, File)>,
    entries: Vec<Entry>,
    /// One a picture, or none at all.
    labels: Vec<i64>,
    class_names: Option<Vec<String>>,
    ignored: usize,
}

impl Collection {
    /// Opens a folder of pictures.
    ///
    /// With folders in it, each is a class: the classes are numbered by the order of their names, and have the
    /// pictures below them at any depth. Without, its pictures have no class. The order of pictures is that of their
    /// classes, then of their names, as torchvision's `ImageFolder` has it. Names that begin with a dot are passed over.
    ///
    /// # Errors
    /// [`DataError::Io`]; [`DataError::Field`] for no picture, a class without any, pictures beside the
    /// classes, a name that is not UTF-8, or folders deeper than 16.
    pub fn open_folder(root: &Path) -> Result<Self, DataError> {
        Self::new(root, folder::open(root)?)
    }

    /// Opens a zip archive of pictures in EDM's layout: `dataset.json` holds `{"labels": [["name", 3], …]}` with one
    /// pair for every picture; without the file, or with `"labels": null`, there are no classes.
    ///
    /// Pictures are in the order of their names. Their number of classes is the largest label plus one.
    ///
    /// # Errors
    /// [`DataError::Archive`] for a broken archive; [`DataError::Field`] for an encrypted member, another compression
    /// than deflate, a name twice, absolute or with `..`, members that overlap, and labels that are not as described;
    /// [`DataError::Limit`] for a picture above [`MAX_FILE`] or a member that inflates to more than 200 times its size.
    pub fn open_zip(path: &Path) -> Result<Self, DataError> {
        Self::new(path, zip::open(path)?)
    }

    /// Opens a tar archive in WebDataset's layout, or a folder of them (`*.tar`, in the order of their names).
    ///
    /// A sample is the members in a row whose names agree up to the first dot behind the last slash: the picture
    /// `KEY.png`, `KEY.jpg` or `KEY.jpeg` and its class `KEY.cls`, a number in text; either all have one or none. The
    /// order is that of the archives. The number of classes is the largest label plus one.
    ///
    /// # Errors
    /// [`DataError::Io`]; [`DataError::Field`] for a header that is damaged, a link, a device or a sparse file, a name
    /// that is absolute or has `..`, a key twice, two pictures in one sample, some samples without a class;
    /// [`DataError::Length`] for an archive that is cut short; [`DataError::Limit`] for a picture above [`MAX_FILE`].
    pub fn open_tar(path: &Path) -> Result<Self, DataError> {
        Self::new(path, tar::open(path)?)
    }

    /// Opens whatever a path leads to: a file by its ending, `.zip` or else a tar archive; a folder with `*.tar` in it as shards;
    /// any other as a folder of pictures.
    ///
    /// # Errors
    /// As [`Collection::open_folder`], [`Collection::open_zip`] and [`Collection::open_tar`].
    pub fn open(path: &Path) -> Result<Self, DataError> {
        let ends_in = |end: &str| {
            path.extension()
                .is_some_and(|it| it.eq_ignore_ascii_case(end))
        };
        if path.is_file() && ends_in("zip") {
            Self::open_zip(path)
        } else if path.is_file() || (path.is_dir() && tar::has_shards(path)?) {
            Self::open_tar(path)
        } else {
            Self::open_folder(path)
        }
    }

    fn new(root: &Path, found: Found) -> Result<Self, DataError> {
        let file = root;
        if found.entries.is_empty() {
            let (expected, got) = ("at least one .png, .jpg or .jpeg", "none");
            return Err(DataError::field(file, 0, "pictures", expected, got));
        }
        let most = i64::try_from(found.entries.len()).unwrap_or(i64::MAX);
        // Labels far above the number of pictures are something else than classes.
        let limit = most.saturating_mul(1000).max(1_000_000);
        if let Some(label) = found.labels.iter().find(|&&l| !(0..limit).contains(&l)) {
            let expected = format!("0..{limit}");
            return Err(DataError::field(file, 0, "label", expected, label));
        }
        let largest = found
            .labels
            .iter()
            .max()
            .map_or(0, |&label| label as usize + 1);
        Ok(Self {
            root: root.to_owned(),
            classes: found.class_names.as_ref().map_or(largest, Vec::len),
            archives: found.archives,
            entries: found.entries,
            labels: found.labels,
            class_names: found.class_names,
            ignored: found.ignored,
        })
    }

    /// Number of pictures, at least one.
    #[expect(clippy::len_without_is_empty, reason = "a collection is never empty")]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Number of classes; 0 when the pictures have none.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// The class of every picture; empty when there are none.
    pub fn labels(&self) -> &[i64] {
        &self.labels
    }

    /// The names of the classes, where folders have them.
    pub fn class_names(&self) -> Option<&[String]> {
        self.class_names.as_deref()
    }

    /// Files or members that are no pictures and were passed over.
    pub fn ignored(&self) -> usize {
        self.ignored
    }

    /// The name of a picture below the folder, or in its archive.
    ///
    /// # Panics
    /// When the index is not below [`Collection::len`].
    pub fn name(&self, index: usize) -> &str {
        &self.entries[index].name
    }

    /// Where a picture is, for messages: `folder/name` or `archive.zip/name`.
    ///
    /// # Panics
    /// When the index is not below [`Collection::len`].
    pub fn path(&self, index: usize) -> PathBuf {
        let Entry { name, place } = &self.entries[index];
        match place {
            Place::File => self.root.join(name),
            Place::Part { archive, .. } => self.archives[*archive].0.join(name),
        }
    }

    /// The encoded picture.
    ///
    /// # Errors
    /// [`DataError::Io`]; [`DataError::Limit`] above [`MAX_FILE`]; [`DataError::Decode`] for a member of a zip archive
    /// that is not as long or has not the check sum as the archive says.
    ///
    /// # Panics
    /// When the index is not below [`Collection::len`].
    pub fn read(&self, index: usize) -> Result<Vec<u8>, DataError> {
        let path = self.path(index);
        let Place::Part {
            archive,
            offset,
            stored,
            inside,
        } = self.entries[index].place
        else {
            return read_file(&path);
        };
        let mut bytes = vec![0; stored as usize];
        read_at(&self.archives[archive].1, &mut bytes, offset).map_err(DataError::io(&path))?;
        match inside {
            Some(inside) => inside.open(&path, bytes),
            None => Ok(bytes),
        }
    }

    /// The decoded picture, at its own size.
    ///
    /// # Errors
    /// As [`Collection::read`] and [`decode::decode`].
    ///
    /// # Panics
    /// When the index is not below [`Collection::len`].
    pub fn decode(&self, index: usize, channels: Channels) -> Result<Picture, DataError> {
        decode::decode(&self.path(index), &self.read(index)?, channels)
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
        let damaged = |reason: String| DataError::Decode {
            file: path.to_owned(),
            reason,
        };
        if bytes.len() as u64 != self.size {
            let reason = format!("the member is not of the {} bytes promised", self.size);
            return Err(damaged(reason));
        }
        let found = crc32fast::hash(&bytes);
        if found == self.crc32 {
            return Ok(bytes);
        }
        Err(damaged(format!(
            "check sum: expected {:08x}, got {found:08x}",
            self.crc32
        )))
    }
}

/// The whole of a file of at most [`MAX_FILE`] bytes.
fn read_file(path: &Path) -> Result<Vec<u8>, DataError> {
    let file = File::open(path).map_err(DataError::io(path))?;
    let size = file.metadata().map_err(DataError::io(path))?.len();
    within_file_limit(path, size)?;
    let mut bytes = Vec::with_capacity(size as usize);
    // A file that grows meanwhile is cut, and then is no picture.
    file.take(MAX_FILE)
        .read_to_end(&mut bytes)
        .map_err(DataError::io(path))?;
    Ok(bytes)
}

/// Refuses an encoded picture that is too long.
fn within_file_limit(path: &Path, size: u64) -> Result<(), DataError> {
    if size <= MAX_FILE {
        return Ok(());
    }
    Err(DataError::Limit {
        file: path.to_owned(),
        what: "file size in bytes",
        limit: MAX_FILE,
        got: size.into(),
    })
}

/// Whether a name is that of a picture.
fn is_picture(name: &str) -> bool {
    let end = name.rsplit_once('.').map_or("", |(_, end)| end);
    ["png", "jpg", "jpeg"]
        .iter()
        .any(|picture| end.eq_ignore_ascii_case(picture))
}

/// Refuses the name of a member that leads out of its archive, or could on some system.
fn refuse_escape(archive: &Path, offset: u64, name: &str) -> Result<(), DataError> {
    let part_is_bad = |part: &str| part == "..";
    let is_bad = name.starts_with('/')
        || name.contains(['\\', '\0'])
        || name.as_bytes().get(1) == Some(&b':')
        || name.split('/').any(part_is_bad);
    if !is_bad {
        return Ok(());
    }
    let (field, expected) = ("name of a member", "a relative name without `..`");
    Err(DataError::field(
        archive,
        offset,
        field,
        expected,
        name.escape_debug(),
    ))
}
