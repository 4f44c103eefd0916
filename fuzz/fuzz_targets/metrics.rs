//! Any bytes as the metrics of a run.

#![no_main]

use libfuzzer_sys::fuzz_target;
use meanflow_train::metrics;

fuzz_target!(|bytes: &[u8]| {
    meanflow_fuzz::file("metrics.jsonl", bytes, |path| metrics::read(path).map(drop));
});
