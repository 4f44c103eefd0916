//! Any bytes as the state of a checkpoint, past its manifest: one of the first layout, which needs no hash of itself.

#![no_main]

use std::fs;

use libfuzzer_sys::fuzz_target;
use meanflow_train::{Checkpoint, fingerprint};

fuzz_target!(|bytes: &[u8]| {
    meanflow_fuzz::file("state.json", bytes, |path| {
        let folder = path.parent().expect("a folder");
        let (length, hash) = fingerprint(path)?;
        let manifest = format!(
            r#"{{"format_version":1,"files":{{"state.json":{{"bytes":{length},"sha256":"{hash}"}}}}}}"#
        );
        fs::write(folder.join("manifest.json"), manifest).expect("room for the file");
        Checkpoint::read(folder).map(drop)
    });
});
