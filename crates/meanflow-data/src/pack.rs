//! Pictures into one zip archive of EDM's layout, which [`ImageArchive::open_zip`] reads in the same order.

use std::io::{Seek, Write};
use std::path::Path;

use rayon::prelude::*;
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

/// Pictures in one go, made by a thread a core.
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
            let indices = first..(first + PORTION).min(collection.len());
            let made = indices.clone().into_par_iter();
            let made = made.map(|index| member(collection, packing, index));
            for (index, member) in indices.zip(made.collect::<Vec<_>>()) {
                let member = member?;
                let is_jpeg = member.starts_with(b"\xff\xd8");
                let end = if is_jpeg { "jpg" } else { "png" };
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
        archive.finish().map(drop).map_err(DataError::archive(path))
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
    let started = archive.start_file(name, options);
    started.map_err(DataError::archive(path))?;
    archive.write_all(bytes).map_err(DataError::io(path))
}
