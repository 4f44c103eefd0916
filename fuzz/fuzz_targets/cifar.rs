//! Any bytes as pictures in CIFAR's format.

#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use meanflow_data::cifar::{self, Variant};

fuzz_target!(|bytes: &[u8]| {
    let path = Path::new("batch");
    for variant in [Variant::Ten, Variant::Hundred] {
        let _ = cifar::parse(variant, path, bytes);
    }
});
