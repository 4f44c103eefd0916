//! What several tests need: the fixtures, and errors that must name their file.

use std::path::{Path, PathBuf};

use meanflow_data::npy::NpyData;
use meanflow_data::npz::Npz;
use meanflow_data::{DataError, Picture};

/// The folder that `fixtures/make.py` fills.
#[allow(dead_code, reason = "not every test file needs it")]
pub(crate) fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

/// A picture of an archive, `[H, W]` or `[H, W, 3]`.
#[allow(dead_code, reason = "not every test file needs it")]
pub(crate) fn picture(archive: &mut Npz, name: &str) -> Picture {
    let array = archive.read(name).unwrap();
    let NpyData::U8(pixels) = array.data else {
        panic!("{name}: not bytes")
    };
    let channels = array.shape.get(2).copied().unwrap_or(1);
    Picture::new([array.shape[0], array.shape[1], channels], pixels).unwrap()
}

/// The error, which must name a file that ends in `name`.
#[allow(dead_code, reason = "not every test file needs it")]
pub(crate) fn refusal<T>(result: Result<T, DataError>, name: &str) -> DataError {
    let error = result.err().expect("damaged data must be refused");
    let text = error.to_string();
    assert!(text.split(": ").next().unwrap().ends_with(name), "{text}");
    error
}

/// A chunk of a PNG file.
#[allow(dead_code, reason = "not every test file needs it")]
pub(crate) fn png_chunk(name: &[u8; 4], contents: &[u8]) -> Vec<u8> {
    let named = [&name[..], contents].concat();
    let mut chunk = (contents.len() as u32).to_be_bytes().to_vec();
    chunk.extend(&named);
    chunk.extend(crc32fast::hash(&named).to_be_bytes());
    chunk
}
