//! Any bytes as a recipe.

#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use meanflow_train::TrainConfig;

fuzz_target!(|bytes: &[u8]| {
    meanflow_fuzz::text(bytes, |text| TrainConfig::parse(Path::new("recipe.toml"), text, &[]).map(drop));
});
