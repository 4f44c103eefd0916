//! Any bytes as a zip archive of pictures.

#![no_main]

use libfuzzer_sys::fuzz_target;
use meanflow_data::ImageArchive;
use meanflow_data::decode::Channels;

fuzz_target!(|bytes: &[u8]| {
    meanflow_fuzz::file("a.zip", bytes, |path| {
        let pictures = ImageArchive::open_zip(path)?;
        (0..pictures.len()).try_for_each(|index| pictures.decode(index, Channels::Color).map(drop))
    });
});
