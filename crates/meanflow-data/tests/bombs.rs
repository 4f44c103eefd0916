//! Files of a few kilobytes that promise, or inflate to, more than a machine has: each is refused by its name, before memory is taken.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use common::{array_of, fixtures, gzipped, memory, png_of, zipped};
use meanflow_data::decode::{self, Channels};
use meanflow_data::latents::Latents;
use meanflow_data::npz::Npz;
use meanflow_data::{DataError, ImageArchive, idx, npy};

/// What all of them together may take.
const MEMORY: u64 = 32 << 20;
/// What each may take: a tenth of it on a free machine, but tests share their processors.
const PATIENCE: Duration = Duration::from_secs(1);
/// Sizes of zeros that deflate to a thousandth: up to 64 MiB are harmless.
const ZEROS: [usize; 3] = [72 << 20, 80 << 20, 128 << 20];

/// Files whose promise is not kept, and what is said of it.
const UNKEPT: [(&str, &str); 3] = [
    ("lying.zip", "60000 bytes promised"),
    ("latents.safetensors", "a header of"),
    ("set.tar", "which are left"),
];

type Read = fn(&Path) -> Result<(), DataError>;

/// Files in a folder, each with what reads it.
struct Bombs {
    folder: tempfile::TempDir,
    all: Vec<(PathBuf, Read)>,
}

impl Bombs {
    fn add(&mut self, name: &str, bytes: &[u8], read: Read) {
        let folder = self.folder.path().join(self.all.len().to_string());
        fs::create_dir(&folder).unwrap();
        let path = folder.join(name);
        fs::write(&path, bytes).unwrap();
        self.all.push((path, read));
    }
}

#[test]
fn fifty_bombs_are_refused_within_little_memory_and_time() {
    let folder = tempfile::tempdir().unwrap();
    let all = Vec::new();
    let mut bombs = Bombs { folder, all };
    pictures(&mut bombs);
    deflated(&mut bombs);
    promises(&mut bombs);
    assert!(bombs.all.len() >= 50, "{}", bombs.all.len());
    let before = rested();
    let mut longest = Duration::ZERO;
    for (path, read) in &bombs.all {
        let begun = Instant::now();
        let error = read(path).expect_err(&path.display().to_string());
        longest = longest.max(begun.elapsed());
        let name = path.file_name().unwrap().to_str().unwrap();
        // By a limit that says so, and not by the nonsense that would come out.
        let is_limit = matches!(error, DataError::Limit { .. });
        let is_promise = UNKEPT
            .iter()
            .any(|(of, why)| *of == name && error.to_string().contains(why));
        assert!(is_limit || is_promise, "{name}: {error}");
        assert!(error.to_string().contains(name), "{name}: {error}");
    }
    assert!(longest < PATIENCE, "{longest:?}");
    if let (Some(before), Some(after)) = (before, memory("VmHWM:")) {
        let taken = after.saturating_sub(before);
        println!(
            "{} bombs: {} KiB, {longest:?} the slowest",
            bombs.all.len(),
            taken >> 10
        );
        assert!(taken < MEMORY, "{taken} bytes");
    }
}

fn picture(path: &Path) -> Result<(), DataError> {
    let bytes = fs::read(path).unwrap();
    decode::decode(path, &bytes, Channels::Color).map(drop)
}

fn archive(path: &Path) -> Result<(), DataError> {
    let archive = ImageArchive::open_zip(path)?;
    (0..archive.len()).try_for_each(|index| archive.read(index).map(drop))
}

/// Pictures beyond the limits of sides, pixels or bytes, whose header is right.
fn pictures(bombs: &mut Bombs) {
    let sizes = [
        (16_385, 1),
        (1, 16_385),
        (8_001, 8_000),
        (12_000, 6_000),
        (16_384, 16_384),
        (20_000, 20_000),
        (65_535, 65_535),
        (i32::MAX as u32, i32::MAX as u32),
    ];
    for (width, height) in sizes {
        // Grey, colour, colour and transparency, by PNG's numbers.
        for (depth, kind) in [(8, 0), (8, 2), (16, 6)] {
            // Pixels that begin with a megabyte of zeros.
            let bytes = png_of([width, height], [depth, kind], &[], &vec![0; 1 << 20]);
            bombs.add("bomb.png", &bytes, picture);
        }
    }
    let jpeg = fs::read(fixtures().join("modes/progressive.jpg")).unwrap();
    let frame = jpeg
        .windows(2)
        .position(|pair| pair == [0xff, 0xc2])
        .unwrap();
    for side in [7_000_u16, 20_000, 65_500] {
        let mut large = jpeg.clone();
        let sides = [side.to_be_bytes(), side.to_be_bytes()].concat();
        large[frame + 5..frame + 9].copy_from_slice(&sides);
        bombs.add("bomb.jpg", &large, picture);
    }
}

/// Files of zeros in every container that deflates.
fn deflated(bombs: &mut Bombs) {
    for zeros in ZEROS {
        let content = vec![0; zeros];
        let pictures = [&[0, 0, 8, 3][..], &sides(&[zeros >> 10, 32, 32]), &content].concat();
        bombs.add("images.gz", &gzipped(&pictures), |path| {
            idx::read_pair(path, path).map(drop)
        });
        let labels = [&[0, 0, 8, 1][..], &sides(&[zeros]), &content].concat();
        bombs.add("labels.gz", &gzipped(&labels), |path| {
            let pictures = path.with_file_name("pictures");
            let one = [&[0, 0, 8, 3][..], &sides(&[1, 2, 2]), &[0; 4]].concat();
            fs::write(&pictures, one).unwrap();
            idx::read_pair(&pictures, path).map(drop)
        });
        for (dtype, count) in [("|u1", zeros), ("<f4", zeros / 4)] {
            let array = [npy(dtype, &count.to_string()), content.clone()].concat();
            bombs.add("arrays.npz", &zipped(&[("x.npy", &array)]), |path| {
                Npz::open(path, 1 << 30)?.read("x").map(drop)
            });
        }
        bombs.add("set.zip", &zipped(&[("a.png", &content)]), archive);
        let spaces = vec![b' '; zeros];
        let labelled = zipped(&[("a.png", b"x"), ("dataset.json", &spaces)]);
        bombs.add("labelled.zip", &labelled, archive);
        // The directory at the end promises less.
        let mut lying = zipped(&[("a.png", &content)]);
        let directory = lying.windows(4).rposition(|w| w == b"PK\x01\x02").unwrap();
        lying[directory + 24..directory + 28].copy_from_slice(&60_000_u32.to_le_bytes());
        bombs.add("lying.zip", &lying, archive);
    }
}

/// Headers that promise what does not follow.
fn promises(bombs: &mut Bombs) {
    for shape in [
        "1099511627776",
        "4294967296, 4294967296",
        "65536, 65536, 65536",
    ] {
        let bytes = npy("<f8", shape);
        bombs.add("array.npy", &bytes, |path| {
            npy::read(path, 1 << 40).map(drop)
        });
    }
    for length in [1_u64 << 40, u64::MAX] {
        let header = [&length.to_le_bytes()[..], b"{}"].concat();
        bombs.add("latents.safetensors", &header, |path| {
            Latents::open(path, 10, true).map(drop)
        });
    }
    let mut tar = tar::Header::new_ustar();
    tar.set_path("a.png").unwrap();
    for size in [1_u64 << 32, 1 << 62] {
        tar.set_size(size);
        tar.set_cksum();
        bombs.add(
            "set.tar",
            &[tar.as_bytes(), &[0; 1024][..]].concat(),
            |path| {
                let archive = ImageArchive::open_tar(path)?;
                (0..archive.len()).try_for_each(|index| archive.read(index).map(drop))
            },
        );
    }
}

fn sides(sides: &[usize]) -> Vec<u8> {
    sides
        .iter()
        .flat_map(|side| (*side as u32).to_be_bytes())
        .collect()
}

fn npy(dtype: &str, shape: &str) -> Vec<u8> {
    array_of(dtype, "False", &format!("({shape},)"), &[])
}

/// What the process holds now, in bytes, from where its peak is counted anew; none where the system cannot do that.
fn rested() -> Option<u64> {
    fs::write("/proc/self/clear_refs", "5").ok()?;
    memory("VmRSS:")
}
