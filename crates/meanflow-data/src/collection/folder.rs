//! A folder of pictures, with a folder for each class or without classes.

use std::fs;
use std::path::{Path, PathBuf};

use super::{Found, Place, is_picture};
use crate::DataError;
use crate::file::refuse_other;

/// Deepest folder below a class; links could go round in circles.
const MAX_DEPTH: usize = 16;

/// Where symbolic links in a folder may lead.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Links {
    /// To what is inside of the folder; one that leads out of it is an error.
    #[default]
    Inside,
    /// Anywhere.
    Follow,
}

pub(super) fn open(root: &Path, links: Links) -> Result<Found, DataError> {
    let walker = Walker::new(root, links)?;
    let mut found = Found::default();
    let (mut classes, files) = walker.list(root, &mut found)?;
    let (pictures, others): (Vec<_>, Vec<_>) = files.into_iter().partition(|name| is_picture(name));
    others.iter().for_each(|name| found.pass(name));
    if classes.is_empty() {
        pictures
            .into_iter()
            .for_each(|name| found.add(name, Place::File));
        return Ok(found);
    }
    if let Some(name) = pictures.first() {
        let expected = "pictures in folders of classes only, or no folders";
        return DataError::refuse(root, 0, "pictures", expected, name);
    }
    sort_classes(&mut classes, &mut found.remarks);
    for (label, class) in classes.iter().enumerate() {
        let mut places = Vec::new();
        walker.walk(class, 0, &mut places, &mut found)?;
        if places.is_empty() {
            let (folder, expected) = (root.join(class), "at least one .png, .jpg or .jpeg");
            return DataError::refuse(&folder, 0, "class", expected, "none");
        }
        // By folder, then by name.
        places.sort_unstable();
        for (folder, name) in places {
            found.labels.push(label as i64);
            found.add(format!("{folder}/{name}"), Place::File);
        }
    }
    found.class_names = Some(classes);
    Ok(found)
}

/// Sorts the names of classes byte by byte, or by their numbers if all are numbers: then class 2 is folder 2 and not 10.
pub(super) fn sort_classes(classes: &mut [String], remarks: &mut Vec<String>) {
    classes.sort_unstable();
    let number = |name: &String| {
        let digits = name.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| name.parse::<u64>().ok()).flatten()
    };
    let is_by_number = classes.is_sorted_by_key(number);
    if classes.iter().any(|name| number(name).is_none()) || is_by_number {
        return;
    }
    classes.sort_by_key(number);
    remarks.push(format!(
        "the class folders are numbers and are sorted as numbers: class 2 is folder {}, which is not the order of their letters",
        classes[2.min(classes.len() - 1)]
    ));
}

/// Goes through the folders below a root.
struct Walker<'a> {
    root: &'a Path,
    /// The root without links; none where links may lead anywhere.
    inside: Option<PathBuf>,
}

impl<'a> Walker<'a> {
    fn new(root: &'a Path, links: Links) -> Result<Self, DataError> {
        let inside = match links {
            Links::Follow => None,
            Links::Inside => Some(root.canonicalize().map_err(DataError::io(root))?),
        };
        Ok(Self { root, inside })
    }

    /// Folder and name of all pictures in `folder` and below it.
    fn walk(
        &self,
        folder: &str,
        depth: usize,
        places: &mut Vec<(String, String)>,
        found: &mut Found,
    ) -> Result<(), DataError> {
        if depth > MAX_DEPTH {
            let path = self.root.join(folder);
            let expected = format!("at most {MAX_DEPTH} folders in each other");
            return DataError::refuse(&path, 0, "depth", expected, depth);
        }
        let (folders, files) = self.list(&self.root.join(folder), found)?;
        for name in files {
            if is_picture(&name) {
                places.push((folder.to_owned(), name));
            } else {
                found.pass(&name);
            }
        }
        for name in folders {
            self.walk(&format!("{folder}/{name}"), depth + 1, places, found)?;
        }
        Ok(())
    }

    /// Names of the folders and of the files in a folder, sorted byte by byte; hidden files are passed over.
    fn list(
        &self,
        folder: &Path,
        found: &mut Found,
    ) -> Result<(Vec<String>, Vec<String>), DataError> {
        let io = || DataError::io(folder);
        let (mut folders, mut files) = (Vec::new(), Vec::new());
        for entry in fs::read_dir(folder).map_err(io())? {
            let entry = entry.map_err(io())?;
            let name = entry.file_name().into_string().map_err(|name| {
                DataError::field(folder, 0, "name of a file", "UTF-8", name.display())
            })?;
            let mut kind = entry.file_type().map_err(io())?;
            let is_link = kind.is_symlink();
            if name.starts_with('.') || name == "__MACOSX" {
                if !kind.is_dir() {
                    found.pass(&name);
                }
                continue;
            }
            let path = entry.path();
            if is_link && let Ok(target) = fs::metadata(&path) {
                kind = target.file_type();
            }
            if is_link && (kind.is_dir() || is_picture(&name)) {
                self.refuse_leaving(&path)?;
            }
            if kind.is_dir() {
                folders.push(name);
                continue;
            }
            if is_picture(&name) && !kind.is_symlink() {
                refuse_other(&path, kind)?;
            }
            files.push(name);
        }
        folders.sort_unstable();
        files.sort_unstable();
        Ok((folders, files))
    }

    /// Refuses a link that leads out of the root.
    fn refuse_leaving(&self, link: &Path) -> Result<(), DataError> {
        let Some(inside) = &self.inside else {
            return Ok(());
        };
        let target = link.canonicalize().map_err(DataError::io(link))?;
        if target.starts_with(inside) {
            return Ok(());
        }
        let expected = "one that stays inside of the folder; `data.follow_links = true` in a recipe, or `--follow-links`, allows others";
        DataError::refuse(link, 0, "link", expected, target.display())
    }
}
