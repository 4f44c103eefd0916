//! What several tests need: the fixtures, files made in memory, and errors that must name their file.
#![allow(dead_code, reason = "not every test file needs all of it")]

use std::fs;
use std::io::{Cursor, Write};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use meanflow_data::npy::{self, NpyData, NpySlice, NpyView};
use meanflow_data::npz::Npz;
use meanflow_data::{DataError, ImageArchive, Picture};
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

/// The folder that `fixtures/make.py` fills.
pub(crate) fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

/// A picture of an archive, `[H, W]` or `[H, W, 3]`.
pub(crate) fn picture(archive: &mut Npz, name: &str) -> Picture {
    let array = archive.read(name).unwrap();
    let NpyData::U8(pixels) = array.data else {
        panic!("{name}: not bytes")
    };
    let channels = array.shape.get(2).copied().unwrap_or(1);
    Picture::new([array.shape[0], array.shape[1], channels], pixels).unwrap()
}

/// The error, which must name a file that ends in `name`.
pub(crate) fn refusal<T>(result: Result<T, DataError>, name: &str) -> DataError {
    let error = result.err().expect("damaged data must be refused");
    let text = error.to_string();
    assert!(text.split(": ").next().unwrap().ends_with(name), "{text}");
    error
}

/// What a reader makes of a file of these bytes.
pub(crate) fn opened<T>(
    bytes: &[u8],
    open: impl FnOnce(&Path) -> Result<T, DataError>,
) -> Result<T, DataError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.file");
    fs::write(&path, bytes).unwrap();
    open(&path)
}

/// A zip archive of these members, deflated.
pub(crate) fn zipped(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, data) in members {
        let options = SimpleFileOptions::default();
        archive.start_file(*name, options).unwrap();
        archive.write_all(data).unwrap();
    }
    archive.finish().unwrap().into_inner()
}

pub(crate) fn zip_of(members: &[(&str, &[u8])]) -> Result<ImageArchive, DataError> {
    opened(&zipped(members), ImageArchive::open_zip)
}

pub(crate) fn tarred(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, data) in members {
        let mut header = tar::Header::new_ustar();
        header.set_size(data.len() as u64);
        archive.append_data(&mut header, name, *data).unwrap();
    }
    archive.into_inner().unwrap()
}

/// Writes an array into a folder.
pub(crate) fn write_array(folder: &Path, name: &str, shape: &[usize], data: NpySlice<'_>) {
    npy::write(&folder.join(name), NpyView { shape, data }).unwrap();
}

/// A `.npy` array of this shape and order in Python's spelling.
pub(crate) fn array_of(dtype: &str, by_columns: &str, shape: &str, elements: &[u8]) -> Vec<u8> {
    let text =
        format!("{{'descr': '{dtype}', 'fortran_order': {by_columns}, 'shape': {shape}, }}\n");
    let length = (text.len() as u16).to_le_bytes();
    [b"\x93NUMPY\x01\0", &length[..], text.as_bytes(), elements].concat()
}

pub(crate) fn gzipped(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
    gzip.write_all(bytes).unwrap();
    gzip.finish().unwrap()
}

pub(crate) fn deflated(bytes: &[u8]) -> Vec<u8> {
    let mut zlib = ZlibEncoder::new(Vec::new(), Compression::best());
    zlib.write_all(bytes).unwrap();
    zlib.finish().unwrap()
}

/// A chunk of a PNG file.
pub(crate) fn png_chunk(name: &[u8; 4], contents: &[u8]) -> Vec<u8> {
    let named = [&name[..], contents].concat();
    let mut chunk = (contents.len() as u32).to_be_bytes().to_vec();
    chunk.extend(&named);
    chunk.extend(crc32fast::hash(&named).to_be_bytes());
    chunk
}

/// A PNG file of this width and height, depth and kind of pixels, with more chunks and these rows.
pub(crate) fn png_of(
    size: [u32; 2],
    depth_and_kind: [u8; 2],
    chunks: &[(&[u8; 4], &[u8])],
    rows: &[u8],
) -> Vec<u8> {
    let size = size.map(u32::to_be_bytes).concat();
    let header = [&size[..], &depth_and_kind, &[0, 0, 0]].concat();
    let mut bytes = [b"\x89PNG\r\n\x1a\n", &png_chunk(b"IHDR", &header)[..]].concat();
    for (name, contents) in chunks {
        bytes.extend(png_chunk(name, contents));
    }
    bytes.extend(png_chunk(b"IDAT", &deflated(rows)));
    bytes.extend(png_chunk(b"IEND", &[]));
    bytes
}

/// A line of what the system says of this process's memory, in bytes; none where it says nothing.
pub(crate) fn memory(line: &str) -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|text| text.strip_prefix(line))?;
    let kibibytes: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kibibytes * 1024)
}
