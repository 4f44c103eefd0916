//! Any bytes as the part of an evaluation that one shard has done.

#![no_main]

use libfuzzer_sys::fuzz_target;
use meanflow_eval::PartFile;

fuzz_target!(|bytes: &[u8]| {
    meanflow_fuzz::file("part.safetensors", bytes, |path| PartFile::read(path).map(drop));
});
