//! Any bytes as a PNG or JPEG file.

#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use meanflow_data::decode::{self, Channels};

fuzz_target!(|bytes: &[u8]| {
    let _ = decode::decode(Path::new("picture"), bytes, Channels::Color);
});
