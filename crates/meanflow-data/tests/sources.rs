//! Data sets of other people: read as published, refused when damaged, drawn anew at every step.

use std::fs;
use std::io::Write;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use half::f16;
use meanflow_core::random::{Purpose, Stream};
use meanflow_data::cifar::{self, Part, Variant};
use meanflow_data::latents::Latents;
use meanflow_data::npy::{self, NpySlice, NpyView};
use meanflow_data::{DataError, Dataset, Source, digits, idx};

/// The error, which must name a file that ends in `name`.
fn refusal<T>(result: Result<T, DataError>, name: &str) -> DataError {
    let error = result.err().expect("damaged data must be refused");
    let text = error.to_string();
    assert!(text.split(": ").next().unwrap().ends_with(name), "{text}");
    error
}

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
            let error = refusal(
                cifar::parse(variant, Path::new("a.bin"), &bytes[..length]),
                "a.bin",
            );
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
    let error = refusal(
        cifar::parse(Variant::Ten, Path::new("a.bin"), &bytes),
        "a.bin",
    );
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
    let error = refusal(read(), "data_batch_5.bin");
    assert!(
        error
            .to_string()
            .ends_with("rows: expected 30730000 bytes, got 30726927"),
        "{error}"
    );
    make(names[4], rows);
    assert_eq!(read().unwrap().len(), 50_000);
    refusal(
        cifar::read_directory(folder.path(), Variant::Ten, Part::Test),
        "test_batch.bin",
    );
}

fn gzipped(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// The bytes of the embedded digits' two files, rebuilt from the data set.
fn digits_files(data: &Dataset) -> [Vec<u8>; 2] {
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
    let same = |read: Dataset| assert_eq!(read.batch(&all), data.batch(&all));
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
    let DataError::Length {
        expected: 4,
        got: 5,
        ..
    } = error
    else {
        panic!("{error}")
    };
    let error = read(&[0, 0, 8, 3, 255, 255, 255, 255, 0, 0, 1, 0, 0, 0, 1, 0]);
    assert!(matches!(error, DataError::Limit { .. }), "{error}");
    assert!(matches!(read(b"nonsense"), DataError::Field { .. }));
}

const FACTS: &str = "vae = \"sd-vae-ft-mse\"\nscale = 0.5\n";

/// A folder of latents, `[6, 4, 2, 3]`: sample n has mean n everywhere, logarithm of variance 2 ln 0.1·n.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        let rows = |sign: f32| -> Vec<f32> {
            let value = |n: usize, place: usize| {
                if place < 24 {
                    sign * n as f32
                } else {
                    2.0 * (0.1 * n as f32).ln()
                }
            };
            let rows = (0..6).flat_map(|n| (0..48).map(move |place| value(n, place)));
            // The logarithm of 0 would not be finite.
            rows.map(|value| value.max(-100.0)).collect()
        };
        folder.write("moments.npy", &[6, 8, 2, 3], NpySlice::F32(&rows(1.0)));
        folder.write(
            "moments_flip.npy",
            &[6, 8, 2, 3],
            NpySlice::F32(&rows(-1.0)),
        );
        folder.write("labels.npy", &[6], NpySlice::I64(&[0, 1, 2, 0, 1, 2]));
        fs::write(folder.path("latents.toml"), FACTS).unwrap();
        folder
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, shape: &[usize], data: NpySlice<'_>) {
        npy::write(&self.path(name), NpyView { shape, data }).unwrap();
    }

    fn open(&self) -> Result<Latents, DataError> {
        Latents::open(self.0.path(), 3, true)
    }
}

#[test]
fn latents_are_drawn_anew_at_every_step() {
    let folder = Folder::new();
    let latents = Latents::open(folder.0.path(), 3, false).unwrap();
    assert_eq!(
        (latents.len(), latents.shape(), latents.classes()),
        (6, &[4, 2, 3][..], 3)
    );
    assert_eq!(latents.facts().vae, "sd-vae-ft-mse");
    let draw = latents.draw(&[5, 0, 2], 1, 9).unwrap();
    assert_eq!(draw, latents.draw(&[5, 0, 2], 1, 9).unwrap());
    assert_eq!(draw.labels, [2, 0, 2]);
    let other = latents.draw(&[5, 0, 2], 1, 10).unwrap();
    assert_ne!(draw.values[..24], other.values[..24]);
    // Cut off at −30, the standard deviation of sample 0 is 3e-7.
    assert!(draw.values[24..48].iter().all(|x| x.abs() < 1e-6));
    // Mean 5 and deviation 0.5, both times 0.5, over 200 steps of 24 numbers.
    let draws: Vec<f32> = (0..200)
        .flat_map(|step| latents.draw(&[5], 1, step).unwrap().values)
        .collect();
    let count = draws.len() as f32;
    let mean = draws.iter().sum::<f32>() / count;
    let variance = draws.iter().map(|x| (x - mean).powi(2)).sum::<f32>() / count;
    // Standard errors 0.25/√4800 = 0.0036 and 0.0625·√(2/4800) = 0.0013; five of them.
    assert!((mean - 2.5).abs() < 0.018, "{mean}");
    assert!((variance - 0.0625).abs() < 0.0065, "{variance}");
}

#[test]
fn mirrored_latents_come_half_of_the_time() {
    let latents = Folder::new();
    let latents = latents.open().unwrap();
    let draw = latents.draw(&[4; 1000], 0, 0).unwrap();
    let mirrored = draw
        .values
        .chunks(24)
        .filter(|row| row.iter().sum::<f32>() < 0.0)
        .count();
    // Binomial with standard deviation 16; five of them.
    assert!(mirrored.abs_diff(500) < 80, "{mirrored}");
}

#[test]
fn means_in_half_precision_are_only_scaled() {
    let folder = Folder::new();
    fs::remove_file(folder.path("moments.npy")).unwrap();
    refusal(folder.open(), "means.npy");
    let mut values = vec![0.0; 6 * 24];
    Stream::new(0, Purpose::Data, 0).fill_normal(&mut values);
    let halves: Vec<f16> = values.iter().map(|&value| f16::from_f32(value)).collect();
    folder.write("means.npy", &[6, 4, 2, 3], NpySlice::F16(&halves));
    let latents = Latents::open(folder.0.path(), 0, false).unwrap();
    let draw = latents.draw(&[3, 1], 0, 0).unwrap();
    let row = |n: usize| halves[24 * n..24 * (n + 1)].iter();
    let expected = row(3).chain(row(1)).map(|value| value.to_f32() * 0.5);
    assert!(draw.values.iter().copied().eq(expected));
    assert!(draw.labels.is_empty() && latents.labels().is_empty());
}

#[test]
fn damaged_latents_are_refused() {
    type Damage = fn(&Folder);
    let cases: [(&str, Damage); 14] = [
        ("latents.toml", |f| {
            fs::remove_file(f.path("latents.toml")).unwrap();
        }),
        ("latents.toml", |f| {
            fs::write(f.path("latents.toml"), "vae = \"x\"\n").unwrap();
        }),
        ("latents.toml", |f| {
            fs::write(f.path("latents.toml"), format!("{FACTS}more = 1\n")).unwrap();
        }),
        ("latents.toml", |f| {
            fs::write(f.path("latents.toml"), FACTS.replace("0.5", "nan")).unwrap();
        }),
        ("latents.toml", |f| {
            fs::write(f.path("latents.toml"), [b'#'; 70_000]).unwrap();
        }),
        ("labels.npy", |f| {
            fs::remove_file(f.path("labels.npy")).unwrap();
        }),
        ("labels.npy", |f| {
            f.write("labels.npy", &[6], NpySlice::I64(&[0, 1, 2, 3, 0, 0]));
        }),
        ("labels.npy", |f| {
            f.write("labels.npy", &[5], NpySlice::I64(&[0; 5]));
        }),
        ("labels.npy", |f| {
            f.write("labels.npy", &[7], NpySlice::I64(&[0; 7]));
        }),
        ("labels.npy", |f| {
            f.write("labels.npy", &[6], NpySlice::F32(&[0.0; 6]));
        }),
        ("moments_flip.npy", |f| {
            fs::remove_file(f.path("moments_flip.npy")).unwrap();
        }),
        ("moments_flip.npy", |f| {
            f.write("moments_flip.npy", &[6, 2], NpySlice::F32(&[0.0; 12]));
        }),
        ("moments.npy", |f| {
            f.write("moments.npy", &[6, 7, 1, 1], NpySlice::F32(&[0.0; 42]));
        }),
        ("moments.npy", |f| {
            f.write("moments.npy", &[6, 8, 1, 1], NpySlice::F64(&[0.0; 48]));
        }),
    ];
    for (name, damage) in cases {
        let folder = Folder::new();
        damage(&folder);
        refusal(folder.open(), name);
    }
    let folder = Folder::new();
    folder.write("labels.npy", &[6], NpySlice::I64(&[0, 1, 2, -1, 0, 0]));
    let error = refusal(folder.open(), "labels.npy").to_string();
    // 128 bytes of header, three labels of 8.
    assert!(
        error.ends_with("label at byte 152: expected 0..3, got -1"),
        "{error}"
    );
}

#[test]
fn every_cut_of_the_moments_is_refused() {
    let folder = Folder::new();
    let bytes = fs::read(folder.path("moments.npy")).unwrap();
    for length in 0..bytes.len() {
        fs::write(folder.path("moments.npy"), &bytes[..length]).unwrap();
        refusal(folder.open(), "moments.npy");
    }
    fs::write(folder.path("moments.npy"), [&bytes[..], &[0]].concat()).unwrap();
    refusal(folder.open(), "moments.npy");
}

#[test]
fn moments_that_change_under_a_run_are_an_error_not_a_crash() {
    let folder = Folder::new();
    let latents = Latents::open(folder.0.path(), 3, false).unwrap();
    let mut bytes = fs::read(folder.path("moments.npy")).unwrap();
    let last = bytes.len() - 4;
    bytes[last..].copy_from_slice(&f32::NAN.to_le_bytes());
    fs::write(folder.path("moments.npy"), &bytes).unwrap();
    latents.draw(&[4], 0, 0).unwrap();
    let error = refusal(latents.draw(&[5], 0, 0), "moments.npy").to_string();
    assert!(
        error.contains(&format!("element at byte {last}")),
        "{error}"
    );
    fs::write(folder.path("moments.npy"), &bytes[..last]).unwrap();
    refusal(latents.draw(&[5], 0, 0), "moments.npy");
}
