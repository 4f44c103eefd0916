//! Pictures into one zip archive of EDM's layout, which [`ImageArchive::open_zip`] reads in the same order.

use std::io::{Seek, Write};
use std::num::NonZeroUsize;
use std::ops::Range;
use std::panic::resume_unwind;
use std::path::Path;
use std::thread;

use zip::result::ZipError;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZipWriter};

use crate::decode::{self, Channels, Reading};
use crate::resize::center_crop;
use crate::survey::WHOLE;
use crate::{DataError, ImageArchive, write_atomically};

/// What is done to the pictures.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Packing {
    /// Nothing: the files go in byte for byte, once they could be decoded.
    AsTheyAre,
    /// Each is cut as [`center_crop`] does and stored as PNG.
    Crop {
        /// Height and width.
        size: usize,
        /// Grey or colour.
        channels: Channels,
    },
}

/// Pictures in one go, to be handed to threads.
const PORTION: usize = 256;

/// Writes `00000/img00000000.png`, … and `dataset.json` with the labels and the names of the classes, stored and not deflated, whole or not at all; the same pictures
/// give the same bytes. `done` is told how many more were packed since it was told last.
///
/// # Errors
/// Those of [`ImageArchive::decode`] for the first damaged picture; [`DataError::Io`] and [`DataError::Archive`].
pub fn pack(
    collection: &ImageArchive,
    packing: Packing,
    path: &Path,
    mut done: impl FnMut(usize),
) -> Result<(), DataError> {
    write_atomically(path, |file| {
        let mut archive = ZipWriter::new(file);
        let mut names = Vec::with_capacity(collection.len());
        for first in (0..collection.len()).step_by(PORTION) {
            let end = (first + PORTION).min(collection.len());
            for (index, member) in (first..end).zip(members(collection, packing, first..end)) {
                let member = member?;
                let end = if member.starts_with(b"\xff\xd8") {
                    "jpg"
                } else {
                    "png"
                };
                let name = format!("{:05}/img{index:08}.{end}", index / 1000);
                add(&mut archive, path, &name, &member)?;
                names.push(name);
                done(1);
            }
        }
        let labels = collection.labels();
        let labels = (!labels.is_empty()).then(|| names.iter().zip(labels).collect::<Vec<_>>());
        let mut text = serde_json::json!({ "labels": labels });
        if let Some(names) = collection.class_names() {
            text["class_names"] = names.into();
        }
        let text = text.to_string();
        add(&mut archive, path, "dataset.json", text.as_bytes())?;
        archive.finish().map(drop).map_err(broken(path))
    })
}

/// These pictures as they go in, made by a thread a core.
fn members(
    collection: &ImageArchive,
    packing: Packing,
    indices: Range<usize>,
) -> Vec<Result<Vec<u8>, DataError>> {
    let threads = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let indices: Vec<usize> = indices.collect();
    let share = indices.len().div_ceil(threads).max(1);
    thread::scope(|scope| {
        let made = |indices: &'_ [usize]| -> Vec<_> {
            let made = indices
                .iter()
                .map(|&index| member(collection, packing, index));
            made.collect()
        };
        let handles: Vec<_> = indices
            .chunks(share)
            .map(|indices| scope.spawn(move || made(indices)))
            .collect();
        let joined = handles.into_iter().map(thread::ScopedJoinHandle::join);
        joined
            .flat_map(|made| made.unwrap_or_else(|panic| resume_unwind(panic)))
            .collect()
    })
}

fn member(collection: &ImageArchive, packing: Packing, index: usize) -> Result<Vec<u8>, DataError> {
    let (path, bytes) = (collection.path(index), collection.read(index)?);
    match packing {
        Packing::AsTheyAre => {
            decode::decode(&path, &bytes, WHOLE)?;
            Ok(bytes)
        }
        Packing::Crop { size, channels } => {
            let view = collection.view();
            let picture = decode::decode(&path, &bytes, Reading { channels, view })?;
            center_crop(&picture, size)?.png(&path)
        }
    }
}

fn add(
    archive: &mut ZipWriter<impl Write + Seek>,
    path: &Path,
    name: &str,
    bytes: &[u8],
) -> Result<(), DataError> {
    let options = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Stored)
        .last_modified_time(DateTime::default());
    archive.start_file(name, options).map_err(broken(path))?;
    archive.write_all(bytes).map_err(DataError::io(path))
}

fn broken(path: &Path) -> impl Fn(ZipError) -> DataError {
    move |source| DataError::Archive {
        file: path.to_owned(),
        source,
    }
}
