//! Any bytes as reference statistics of an evaluation.

#![no_main]

use libfuzzer_sys::fuzz_target;
use meanflow_eval::Reference;

fuzz_target!(|bytes: &[u8]| {
    meanflow_fuzz::file("reference.npz", bytes, |path| Reference::read(path).map(drop));
});
