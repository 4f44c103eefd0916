//! The examples run, and what they assert holds.

#![allow(
    dead_code,
    reason = "of each example its `main`, which takes arguments"
)]

#[path = "../examples/convert_official.rs"]
mod convert_official;
#[path = "../examples/sample_from_file.rs"]
mod sample_from_file;

#[test]
fn official_weights_are_converted() {
    let folder = tempfile::tempdir().unwrap();
    convert_official::convert(folder.path()).unwrap();
}

#[test]
fn samples_are_drawn_from_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = sample_from_file::untrained(folder.path()).unwrap();
    sample_from_file::draw(&path).unwrap();
    let nothing = sample_from_file::draw(&folder.path().join("nothing.safetensors"));
    assert!(
        nothing
            .unwrap_err()
            .to_string()
            .contains("nothing.safetensors")
    );
}
