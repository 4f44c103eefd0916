//! Any bytes as the manifest of a checkpoint.

#![no_main]

use libfuzzer_sys::fuzz_target;
use meanflow_train::Checkpoint;

fuzz_target!(|bytes: &[u8]| {
    meanflow_fuzz::file("manifest.json", bytes, |path| Checkpoint::read(path.parent().expect("a folder")).map(drop));
});
