//! Any bytes as an archive of NumPy arrays.

#![no_main]

use libfuzzer_sys::fuzz_target;
use meanflow_data::npz::Npz;

fuzz_target!(|bytes: &[u8]| {
    meanflow_fuzz::file("a.npz", bytes, |path| {
        let mut archive = Npz::open(path, 1 << 20)?;
        let names = archive.names().to_vec();
        names.iter().try_for_each(|name| archive.read(name).map(drop))
    });
});
