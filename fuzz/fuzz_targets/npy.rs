//! Any bytes as a NumPy array.

#![no_main]

use libfuzzer_sys::fuzz_target;
use meanflow_data::npy;

fuzz_target!(|bytes: &[u8]| {
    meanflow_fuzz::file("a.npy", bytes, |path| npy::read(path, 1 << 20).map(drop));
});
