//! Any bytes as latents in a safetensors file.

#![no_main]

use libfuzzer_sys::fuzz_target;
use meanflow_data::latents::Latents;

fuzz_target!(|bytes: &[u8]| {
    meanflow_fuzz::file("latents.safetensors", bytes, |path| Latents::open_as_found(path).map(drop));
});
