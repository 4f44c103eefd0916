//! Small stand-ins for tests: wheels, pins, an installation.

use super::pins::{Pin, VERSION};
use super::verify;
use std::fs;
use std::io::{Cursor, Write};
use tempfile::TempDir;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

/// A zip archive with these entries, not compressed.
pub(crate) fn zip(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    for (name, content) in entries {
        writer.start_file(*name, options).unwrap();
        writer.write_all(content).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

/// The pin of a file with this content.
pub(crate) fn pin(file: &str, content: &[u8]) -> Pin {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(file);
    fs::write(&path, content).unwrap();
    Pin {
        file: file.to_owned(),
        bytes: content.len() as u64,
        sha256: verify::sha256(&path).unwrap(),
    }
}

/// The wheels of a tiny libtorch: names and contents.
pub(crate) fn wheels() -> Vec<(&'static str, Vec<u8>)> {
    let torch = zip(&[
        (
            "torch/include/torch/csrc/api/include/torch/torch.h",
            b"// torch",
        ),
        ("torch/lib/libc10.so", b"c10"),
        ("torch/lib/libgomp.so.1", b"gomp"),
        ("torch/lib/libtorch.so", b"asks for cuda"),
        ("torch/lib/libtorch_cpu.so", &[1; 4096]),
        ("torch/lib/libtorch_cuda.so", b"cuda"),
        ("torch/version.py", b"__version__ = '2.11.0'"),
    ]);
    let nvidia = zip(&[("nvidia/cu13/lib/libcudart.so.13", b"runtime")]);
    vec![("torch.whl", torch), ("nvidia.whl", nvidia)]
}

/// A libtorch as small as can be.
pub(crate) fn installation() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let header = folder.path().join("include/torch/csrc/api/include/torch");
    fs::create_dir_all(&header).unwrap();
    fs::create_dir(folder.path().join("lib")).unwrap();
    fs::write(header.join("torch.h"), "// torch").unwrap();
    for library in ["libc10.so", "libtorch.so", "libtorch_cpu.so"] {
        fs::write(folder.path().join("lib").join(library), library).unwrap();
    }
    fs::write(folder.path().join("build-version"), VERSION).unwrap();
    folder
}
