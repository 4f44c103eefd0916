//! NumPy's `.npz` archives: named `.npy` arrays in a zip file.

use std::fs::File;
use std::io::{BufReader, Seek, Write};
use std::path::{Path, PathBuf};

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZipArchive, ZipWriter};

use crate::file::open_regular;
use crate::npy::{self, NpyArray, NpySlice, NpyView};
use crate::picture::Pictures;
use crate::{DataError, write_atomically};

/// Most arrays in one archive that is read.
pub const MAX_ARRAYS: usize = 4096;

/// An archive open for reading. Nothing is ever extracted to the disk.
#[derive(Debug)]
pub struct Npz {
    file: PathBuf,
    archive: ZipArchive<BufReader<File>>,
    names: Vec<String>,
    max_bytes: u64,
}

impl Npz {
    /// Opens an archive whose arrays take at most `max_bytes` each.
    ///
    /// # Errors
    /// [`DataError::Io`]; [`DataError::Archive`] for a broken zip file; [`DataError::Limit`] above [`MAX_ARRAYS`];
    /// [`DataError::Field`] for a name twice. Members that do not end in `.npy`, such as notes, are passed over.
    pub fn open(path: &Path, max_bytes: u64) -> Result<Self, DataError> {
        let (file, _) = open_regular(path)?;
        let broken = DataError::archive(path);
        let mut archive = ZipArchive::new(BufReader::new(file)).map_err(&broken)?;
        let count = archive.len();
        DataError::within(path, "number of arrays", MAX_ARRAYS as u64, count as u64)?;
        if archive.has_duplicate_names() {
            return DataError::refuse(path, 0, "names of arrays", "each once", "a name twice");
        }
        let mut names = Vec::with_capacity(count);
        for index in 0..count {
            let member = archive.by_index_raw(index).map_err(&broken)?;
            let name = member.name().map_err(&broken)?;
            names.extend(name.strip_suffix(".npy").map(str::to_owned));
        }
        Ok(Self {
            file: path.to_owned(),
            archive,
            names,
            max_bytes,
        })
    }

    /// The names of the arrays, without `.npy`, in the order of the archive.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Reads one array, check sum included.
    ///
    /// # Errors
    /// [`DataError::Archive`] when there is no such array or the archive is broken (an encrypted one is refused);
    /// otherwise as [`npy::read`], the file being named `archive.npz/array.npy`.
    pub fn read(&mut self, name: &str) -> Result<NpyArray, DataError> {
        let label = self.file.join(format!("{name}.npy"));
        let member = self.archive.by_name(&format!("{name}.npy"));
        let member = member.map_err(DataError::archive(&label))?;
        let sizes = (member.size(), member.compressed_size());
        npy::read_from(member, sizes, &label, self.max_bytes)
    }
}

/// Writes an archive of named arrays, whole or not at all, deflated or stored. The same arrays give the same bytes.
///
/// # Errors
/// [`DataError::Shape`] when a shape and its data do not fit; [`DataError::Archive`] (a name twice); [`DataError::Io`].
pub fn write(
    path: &Path,
    arrays: &[(&str, NpyView<'_>)],
    compression: Compression,
) -> Result<(), DataError> {
    write_atomically(path, |file| {
        let mut archive = ZipWriter::new(file);
        for (name, array) in arrays {
            append(&mut archive, name, array, compression, path)?;
        }
        archive.finish().map(drop).map_err(DataError::archive(path))
    })
}

/// Whether the arrays of an archive are deflated.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Compression {
    /// Deflate, as `numpy.savez_compressed`.
    Deflate,
    /// As they are, as `numpy.savez`.
    Store,
}

/// Writes samples as evaluators expect them: `arr_0`, uint8 `[N, H, W, C]`, and, if there are labels, `arr_1`, int64 `[N]`.
///
/// # Errors
/// [`DataError::Shape`] unless there is one label a picture, or none at all; otherwise as [`write()`].
pub fn write_samples(path: &Path, pictures: &Pictures, labels: &[i64]) -> Result<(), DataError> {
    if !labels.is_empty() && labels.len() != pictures.len() {
        return DataError::misfit("number of labels", pictures.len(), labels.len());
    }
    let view = |shape, data| NpyView { shape, data };
    let (shape, count) = (pictures.shape(), [labels.len()]);
    let samples = ("arr_0", view(&shape, NpySlice::U8(pictures.pixels())));
    let labels = ("arr_1", view(&count, NpySlice::I64(labels)));
    let arrays = [samples, labels];
    let arrays = if count == [0] { &arrays[..1] } else { &arrays };
    write(path, arrays, Compression::Deflate)
}

fn append(
    archive: &mut ZipWriter<impl Write + Seek>,
    name: &str,
    array: &NpyView<'_>,
    compression: Compression,
    path: &Path,
) -> Result<(), DataError> {
    let method = match compression {
        Compression::Deflate => CompressionMethod::Deflated,
        Compression::Store => CompressionMethod::Stored,
    };
    // The header, and what deflate may add to bytes that do not shrink, stay far below a sixteenth of 4 GiB.
    let large = array.bytes() > u64::from(u32::MAX) / 16 * 15;
    let options = SimpleFileOptions::default()
        .compression_method(method)
        .last_modified_time(DateTime::default())
        .large_file(large);
    archive
        .start_file(format!("{name}.npy"), options)
        .map_err(DataError::archive(path))?;
    array.write_to(archive, path)
}
