//! Files with damage of every kind: refused with their name, or read whole; never a panic, within bounds of time and memory.
//!
//! Each file is a valid one, made by a tool that is not ours, with one to four changes that follow from a seed.

mod common;
#[path = "common/damage.rs"]
mod damage;

use std::fmt::Debug;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use common::{array_of, fixtures, memory, write_array};
use damage::{damaged, inputs};
use meanflow_core::random::{Purpose, RngStream};
use meanflow_data::cifar::{self, Variant};
use meanflow_data::decode::{self, Channels};
use meanflow_data::latents::Latents;
use meanflow_data::npy::{self, NpySlice};
use meanflow_data::npz::Npz;
use meanflow_data::{DataError, Dataset, ImageArchive, idx};

/// Longest that one file may take: most take well below a millisecond, but tests share their processors with others.
const PATIENCE: Duration = Duration::from_secs(20);

/// Whether a file was read; if not, the error names it. `case` tells how to find a panic again.
fn outcome<T: Debug>(
    name: &str,
    case: &str,
    read: impl FnOnce() -> Result<T, DataError>,
) -> Option<T> {
    let begun = Instant::now();
    let result = catch_unwind(AssertUnwindSafe(read));
    assert!(begun.elapsed() < PATIENCE, "{case}: {:?}", begun.elapsed());
    match result.unwrap_or_else(|_| panic!("{case}: a panic")) {
        Ok(read) => Some(read),
        Err(error) => {
            assert!(error.to_string().contains(name), "{case}: {error}");
            None
        }
    }
}

/// The limit of decoding, what a picture is turned into, and the tests themselves.
fn assert_little_memory() {
    if let Some(peak) = memory("VmHWM:") {
        assert!(peak < 3 * decode::MAX_BYTES, "{peak} bytes");
    }
}

#[test]
fn fifty_thousand_damaged_pictures_are_refused_or_read_whole() {
    let folder = fixtures().join("modes");
    let mut files: Vec<PathBuf> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    assert!(files.len() >= 14);
    let mut stream = RngStream::new(0, Purpose::Data, 1);
    let mut read = 0;
    let count = inputs(50_000);
    for case in 0..count {
        let file = &files[case % files.len()];
        let mut bytes = damaged(&fs::read(file).unwrap(), &mut stream);
        if stream.below(2) == 0 {
            with_right_sums(&mut bytes);
        }
        let name = file.file_name().unwrap().to_str().unwrap();
        let case = format!("picture {case}, {name}");
        let picture = outcome(name, &case, || {
            decode::decode(file, &bytes, Channels::Color)
        });
        if let Some(picture) = picture {
            let [height, width, _] = picture.shape();
            let size = decode::dimensions(file, &bytes).unwrap();
            assert_eq!([height, width], size, "{case}");
            read += 1;
        }
    }
    // JPEG files and parts that nobody reads have no check sums.
    let share = read as f64 / count as f64;
    assert!((0.04..0.6).contains(&share), "{read} of {count}");
    assert_little_memory();
}

/// Gives every chunk of a PNG file the sum of what it holds: damage that was meant gets past the sums.
fn with_right_sums(bytes: &mut [u8]) {
    let mut at = 8;
    while let Some(length) = bytes.get(at..at + 4) {
        let length = u32::from_be_bytes(length.try_into().unwrap()) as usize;
        let end = at + 8 + length;
        let Some(content) = bytes.get(at + 4..end) else {
            return;
        };
        let mut sum = flate2::Crc::new();
        sum.update(content);
        let Some(place) = bytes.get_mut(end..end + 4) else {
            return;
        };
        place.copy_from_slice(&sum.sum().to_be_bytes());
        at = end + 4;
    }
}

/// Five hundred damaged copies of a file, each read; how many were read whole.
fn refused_or_read(
    name: &str,
    bytes: &[u8],
    seed: u64,
    read: impl Fn(&Path) -> Result<(), DataError>,
) -> usize {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    let mut stream = RngStream::new(seed, Purpose::Data, 2);
    let mut whole = 0;
    let count = inputs(500);
    for case in 0..count {
        fs::write(&path, damaged(bytes, &mut stream)).unwrap();
        let case = format!("{name} {case} of seed {seed}");
        whole += usize::from(outcome(name, &case, || read(&path)).is_some());
    }
    assert!(5 * whole < 4 * count, "{name}: {whole} of {count} read");
    assert_little_memory();
    whole
}

fn fixture(name: &str) -> Vec<u8> {
    fs::read(fixtures().join(name)).unwrap()
}

/// Opens a collection and decodes all of it.
fn whole(collection: &ImageArchive) -> Result<(), DataError> {
    (0..collection.len()).try_for_each(|index| collection.decode(index, Channels::Color).map(drop))
}

#[test]
fn damaged_zip_archives_are_refused_or_read_whole() {
    for name in ["stored.zip", "deflated.zip"] {
        refused_or_read(name, &fixture(name), 1, |path| {
            whole(&ImageArchive::open_zip(path)?)
        });
    }
}

#[test]
fn damaged_tar_archives_are_refused_or_read_whole() {
    // Four fifths of the archive are zeros at its end and between its members.
    refused_or_read("shard.tar", &fixture("shard.tar"), 2, |path| {
        whole(&ImageArchive::open_tar(path)?)
    });
}

#[test]
fn damaged_npz_archives_are_refused_or_read_whole() {
    refused_or_read("latents.npz", &fixture("latents.npz"), 3, |path| {
        let mut archive = Npz::open(path, 1 << 20)?;
        let names = archive.names().to_vec();
        names
            .iter()
            .try_for_each(|name| archive.read(name).map(drop))
    });
}

#[test]
fn damaged_idx_files_are_refused_or_read_whole() {
    let labels = fixtures().join("idx/train-labels-idx1-ubyte.gz");
    let name = "train-images-idx3-ubyte.gz";
    let read = |path: &Path| idx::read_pair(path, &labels).map(drop);
    refused_or_read(name, &fixture("idx/train-images-idx3-ubyte.gz"), 4, read);
}

#[test]
fn damaged_safetensors_are_refused_or_read_whole() {
    refused_or_read(
        "moments.safetensors",
        &fixture("moments.safetensors"),
        5,
        |path| {
            let latents = Latents::open(path, 3, true)?;
            let all: Vec<usize> = (0..latents.len()).collect();
            latents.batch(&all, 0, 0).map(drop)
        },
    );
}

#[test]
fn damaged_npy_files_are_refused_or_read_whole() {
    let bytes = array_of("<f4", "False", "(3, 5)", &[0; 60]);
    refused_or_read("a.npy", &bytes, 6, |path| {
        npy::read(path, 1 << 20).map(drop)
    });
}

/// A label byte and the pixels of each: all lengths but multiples of a record are wrong, and so are labels beyond the last class.
#[test]
fn damaged_cifar_batches_are_refused_or_read_whole() {
    let records: Vec<u8> = (0..3)
        .flat_map(|label| [vec![label], vec![label; 3072]].concat())
        .collect();
    refused_or_read("data_batch_1.bin", &records, 7, |path| {
        cifar::parse(Variant::Ten, path, &fs::read(path).unwrap()).map(drop)
    });
}

#[test]
fn damaged_facts_of_latents_are_refused_or_read_whole() {
    let folder = tempfile::tempdir().unwrap();
    let means = NpySlice::F32(&[0.5, 1.0]);
    write_array(folder.path(), "means.npy", &[2, 1, 1, 1], means);
    let facts = b"vae = \"sd-vae-ft-mse\"\nscale = 0.18215\nshift = 0.0\n";
    refused_or_read("latents.toml", facts, 8, |path| {
        fs::copy(path, folder.path().join("latents.toml")).unwrap();
        Latents::open(folder.path(), 0, false).map(drop)
    });
}
