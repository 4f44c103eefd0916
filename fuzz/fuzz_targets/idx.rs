//! Any bytes as pictures in MNIST's format, and as their labels.

#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use meanflow_data::idx;

/// Two pictures of one pixel.
const PICTURES: &[u8] = b"\0\0\x08\x03\0\0\0\x02\0\0\0\x01\0\0\0\x01\x10\x20";
/// Their labels.
const LABELS: &[u8] = b"\0\0\x08\x01\0\0\0\x02\0\x01";

fuzz_target!(|bytes: &[u8]| {
    let path = Path::new("file");
    let _ = idx::parse((path, bytes), (path, LABELS));
    let _ = idx::parse((path, PICTURES), (path, bytes));
});
