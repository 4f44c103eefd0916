//! A folder of pictures, with a folder for each class or without classes.

use std::fs;
use std::path::Path;

use super::{Entry, Found, Place, is_picture};
use crate::DataError;

/// Deepest folder below a class; links could go round in circles.
const MAX_DEPTH: usize = 16;

pub(super) fn open(root: &Path) -> Result<Found, DataError> {
    let mut found = Found::default();
    let (classes, files) = list(root)?;
    let (pictures, others): (Vec<_>, Vec<_>) = files.into_iter().partition(|name| is_picture(name));
    found.ignored = others.len();
    if classes.is_empty() {
        found.entries = pictures.into_iter().map(entry).collect();
        return Ok(found);
    }
    if let Some(name) = pictures.first() {
        let expected = "pictures in folders of classes only, or no folders";
        return Err(DataError::field(root, 0, "pictures", expected, name));
    }
    for (label, class) in classes.iter().enumerate() {
        let mut places = Vec::new();
        walk(root, class, 0, &mut places, &mut found.ignored)?;
        if places.is_empty() {
            let (folder, expected) = (root.join(class), "at least one .png, .jpg or .jpeg");
            return Err(DataError::field(&folder, 0, "class", expected, "none"));
        }
        // By folder, then by name.
        places.sort_unstable();
        found.labels.extend(places.iter().map(|_| label as i64));
        let names = places.into_iter();
        let names = names.map(|(folder, name)| format!("{folder}/{name}"));
        found.entries.extend(names.map(entry));
    }
    found.class_names = Some(classes);
    Ok(found)
}

fn entry(name: String) -> Entry {
    Entry {
        name,
        place: Place::File,
    }
}

/// Folder and name of all pictures in `folder` and below it.
fn walk(
    root: &Path,
    folder: &str,
    depth: usize,
    places: &mut Vec<(String, String)>,
    ignored: &mut usize,
) -> Result<(), DataError> {
    if depth > MAX_DEPTH {
        let path = root.join(folder);
        let expected = format!("at most {MAX_DEPTH} folders in each other");
        return Err(DataError::field(&path, 0, "depth", expected, depth));
    }
    let (folders, files) = list(&root.join(folder))?;
    for name in files {
        if is_picture(&name) {
            places.push((folder.to_owned(), name));
        } else {
            *ignored += 1;
        }
    }
    for name in folders {
        walk(
            root,
            &format!("{folder}/{name}"),
            depth + 1,
            places,
            ignored,
        )?;
    }
    Ok(())
}

/// Names of the folders and of the files in a folder, sorted byte by byte; links are followed.
fn list(folder: &Path) -> Result<(Vec<String>, Vec<String>), DataError> {
    let io = || DataError::io(folder);
    let (mut folders, mut files) = (Vec::new(), Vec::new());
    for entry in fs::read_dir(folder).map_err(io())? {
        let entry = entry.map_err(io())?;
        let name = entry.file_name().into_string().map_err(|name| {
            DataError::field(folder, 0, "name of a file", "UTF-8", name.display())
        })?;
        if name.starts_with('.') {
            continue;
        }
        let kind = entry.file_type().map_err(io())?;
        let is_folder = if kind.is_symlink() {
            fs::metadata(entry.path()).is_ok_and(|target| target.is_dir())
        } else {
            kind.is_dir()
        };
        if is_folder {
            folders.push(name);
        } else {
            files.push(name);
        }
    }
    folders.sort_unstable();
    files.sort_unstable();
    Ok((folders, files))
}
