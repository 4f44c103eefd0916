//! Any bytes as a weights file.

#![no_main]

use libfuzzer_sys::fuzz_target;
use meanflow_torch::weights::Verify;
use meanflow_torch::{Device, Model};

fuzz_target!(|bytes: &[u8]| {
    meanflow_fuzz::file("a.safetensors", bytes, |path| Model::load_with(path, Device::Cpu, Verify::Nothing).map(drop));
});
