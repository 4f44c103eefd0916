//! Any bytes as a crash bundle.

#![no_main]

use libfuzzer_sys::fuzz_target;
use meanflow_train::CrashBundle;

fuzz_target!(|bytes: &[u8]| {
    meanflow_fuzz::file("crash-1.json", bytes, |path| CrashBundle::read(path).map(drop));
});
