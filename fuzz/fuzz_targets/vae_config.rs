//! Any bytes as the configuration of a VAE.

#![no_main]

use libfuzzer_sys::fuzz_target;
use meanflow_torch::networks::VaeConfig;

fuzz_target!(|bytes: &[u8]| {
    meanflow_fuzz::file("config.json", bytes, |path| VaeConfig::read(path).map(drop));
});
