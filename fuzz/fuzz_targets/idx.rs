//! Any bytes as pictures in MNIST's format.

#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use meanflow_data::idx;

fuzz_target!(|bytes: &[u8]| {
    let path = Path::new("images");
    let _ = idx::parse((path, bytes), (path, bytes));
});
