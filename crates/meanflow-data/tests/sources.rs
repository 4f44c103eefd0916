//! Data sets of other people: read as published, refused when damaged.

mod common;

use std::fs;
use std::path::Path;

use common::{gzipped, refusal};
use meanflow_data::cifar::{self, Part, Variant};
use meanflow_data::{DataError, Dataset, MemoryDataset, digits, idx};

/// `rows` rows whose pixels tell channel, row and column apart.
fn cifar_rows(variant: Variant, rows: usize) -> Vec<u8> {
    let row = |index: usize| {
        let labels = match variant {
            Variant::Ten => vec![index as u8 % 10],
            Variant::Hundred => vec![index as u8 % 20, index as u8 % 100],
        };
        let pixels = (0..3072).map(move |place| (place * 7 % 251 + index) as u8);
        labels.into_iter().chain(pixels)
    };
    (0..rows).flat_map(row).collect()
}

#[test]
fn a_cifar_row_is_a_label_and_three_planes() {
    for variant in [Variant::Ten, Variant::Hundred] {
        let bytes = cifar_rows(variant, 25);
        let data = cifar::parse(variant, Path::new("a.bin"), &bytes).unwrap();
        assert_eq!((data.len(), data.shape()), (25, &[3, 32, 32][..]));
        assert_eq!(data.classes(), variant.classes());
        let labels: Vec<i64> = (0..25).map(|i| i % variant.classes() as i64).collect();
        assert_eq!(data.labels(), labels);
        // `Pictures` puts the channels last: the second pixel of the first row is (1, 1025, 2049) in the file.
        let pixels = data.pictures(&[3]).unwrap().pixels().to_vec();
        let byte = |place: usize| (place * 7 % 251 + 3) as u8;
        assert_eq!(pixels[3..6], [byte(1), byte(1025), byte(2049)]);
    }
}

#[test]
fn every_cut_of_a_cifar_file_is_refused() {
    for variant in [Variant::Ten, Variant::Hundred] {
        let bytes = cifar_rows(variant, 2);
        let size = variant.row_bytes();
        for length in (0..bytes.len()).filter(|length| *length != size) {
            let parsed = cifar::parse(variant, Path::new("a.bin"), &bytes[..length]);
            let error = refusal(parsed, "a.bin");
            let DataError::Length { expected, got, .. } = error else {
                panic!("{error}")
            };
            let whole = if length < size { size } else { 2 * size };
            assert_eq!((expected as usize, got as usize), (whole, length));
        }
    }
}

#[test]
fn a_cifar_label_out_of_range_is_refused_at_its_place() {
    let mut bytes = cifar_rows(Variant::Ten, 3);
    bytes[3073] = 10;
    let parsed = cifar::parse(Variant::Ten, Path::new("a.bin"), &bytes);
    let error = refusal(parsed, "a.bin");
    let message = "a.bin: label at byte 3073: expected 0..10, got 10";
    assert_eq!(error.to_string(), message);
    let mut bytes = cifar_rows(Variant::Hundred, 3);
    bytes[3074] = 20;
    let parsed = cifar::parse(Variant::Hundred, Path::new("a.bin"), &bytes);
    assert!(parsed.unwrap_err().to_string().contains("coarse label"));
}

#[test]
fn a_cifar_folder_has_all_its_files_whole() {
    let folder = tempfile::tempdir().unwrap();
    let (names, rows) = Variant::Ten.files(Part::Train);
    assert_eq!(names.len() * rows, cifar::TRAINING_PICTURES);
    // Files without blocks: every label is 0, every pixel black.
    let make = |name: &str, rows: usize| {
        let file = fs::File::create(folder.path().join(name)).unwrap();
        file.set_len((rows * 3073) as u64).unwrap();
    };
    for name in &names[..4] {
        make(name, rows);
    }
    let read = || cifar::read_directory(folder.path(), Variant::Ten, Part::Train);
    refusal(read(), "data_batch_5.bin");
    make(names[4], rows - 1);
    let error = refusal(read(), "data_batch_5.bin").to_string();
    let message = "rows: expected 30730000 bytes, got 30726927";
    assert!(error.ends_with(message), "{error}");
    make(names[4], rows);
    assert_eq!(read().unwrap().len(), 50_000);
    refusal(
        cifar::read_directory(folder.path(), Variant::Ten, Part::Test),
        "test_batch.bin",
    );
}

/// The bytes of the embedded digits' two files, rebuilt from the data set.
fn digits_files(data: &MemoryDataset) -> [Vec<u8>; 2] {
    let indices: Vec<usize> = (0..data.len()).collect();
    let mut images = vec![0, 0, 8, 3, 0, 0, 7, 5, 0, 0, 0, 8, 0, 0, 0, 8];
    images.extend_from_slice(data.pictures(&indices).unwrap().pixels());
    let mut labels = vec![0, 0, 8, 1, 0, 0, 7, 5];
    labels.extend(data.labels().iter().map(|&label| label as u8));
    [images, labels]
}

#[test]
fn gzipped_idx_files_hold_what_the_plain_ones_do() {
    let data = digits::load().unwrap();
    let [images, labels] = digits_files(&data);
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::write(path("train-images-idx3-ubyte.gz"), gzipped(&images)).unwrap();
    fs::write(path("train-labels-idx1-ubyte"), &labels).unwrap();
    let all: Vec<usize> = (0..data.len()).collect();
    let same = |read: MemoryDataset| assert_eq!(read.examples(&all), data.examples(&all));
    same(idx::read_directory(folder.path()).unwrap());
    fs::remove_file(path("train-labels-idx1-ubyte")).unwrap();
    refusal(
        idx::read_directory(folder.path()),
        "train-labels-idx1-ubyte",
    );
    fs::write(path("train-labels-idx1-ubyte.gz"), gzipped(&labels)).unwrap();
    same(idx::read_directory(folder.path()).unwrap());
}

#[test]
fn every_damage_to_a_gzipped_file_is_found() {
    let [images, labels] = digits_files(&digits::load().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let [images_path, labels_path] = ["i.gz", "l.gz"].map(|name| folder.path().join(name));
    fs::write(&images_path, gzipped(&images)).unwrap();
    let read = |bytes: &[u8]| {
        fs::write(&labels_path, bytes).unwrap();
        idx::read_pair(&images_path, &labels_path)
    };
    let good = gzipped(&labels);
    read(&good).unwrap();
    for length in 0..good.len() {
        refusal(read(&good[..length]), "l.gz");
    }
    let all = read(&good).unwrap().labels().to_vec();
    for bit in 0..8 * good.len() {
        let mut bytes = good.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        // Some bits say nothing that matters: a date, a system, what fills the last byte.
        match read(&bytes) {
            Ok(data) => assert_eq!(data.labels(), all, "bit {bit}"),
            error => drop(refusal(error, "l.gz")),
        }
    }
    refusal(read(&[&good[..], b"more"].concat()), "l.gz");
    refusal(read(&gzipped(&[&labels[..], &[0]].concat())), "l.gz");
}

#[test]
fn what_inflates_without_end_is_cut_off() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("i.gz");
    let read = |start: &[u8]| {
        // 64 MB of zeros in 64 kB.
        fs::write(&path, gzipped(&[start, &vec![0; 64 << 20]].concat())).unwrap();
        refusal(idx::read_pair(&path, &path), "i.gz")
    };
    // One picture of 2×2 pixels is promised: one byte more is inflated, and no other.
    let one = [0, 0, 8, 3, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 2];
    let error = read(&one);
    let message = "expected 4 bytes, got 5";
    assert!(error.to_string().ends_with(message), "{error}");
    let error = read(&[0, 0, 8, 3, 255, 255, 255, 255, 0, 0, 1, 0, 0, 0, 1, 0]);
    assert!(matches!(error, DataError::Limit { .. }), "{error}");
    assert!(matches!(read(b"nonsense"), DataError::Field { .. }));
}
