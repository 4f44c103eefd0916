//! Latents: drawn anew at every step, refused when damaged.

mod common;

use std::fs;
use std::path::PathBuf;

use common::{fixtures, refusal, write_array};
use half::f16;
use meanflow_core::random::{Purpose, RngStream};
use meanflow_data::latents::{Facts, Latents, write_facts};
use meanflow_data::npy::{self, NpyData, NpySlice};
use meanflow_data::npz::Npz;
use meanflow_data::{DataError, Dataset};

const FACTS: &str = "vae = \"sd-vae-ft-mse\"\nscale = 0.5\n";

/// A folder of latents, `[6, 4, 2, 3]`: sample n has mean n everywhere, logarithm of variance 2 ln 0.1·n.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        let rows = |sign: f32| -> Vec<f32> {
            let value = |n: usize, place: usize| match place {
                ..24 => sign * n as f32,
                _ => 2.0 * (0.1 * n as f32).ln(),
            };
            let rows = (0..6).flat_map(|n| (0..48).map(move |place| value(n, place)));
            // The logarithm of 0 would not be finite.
            rows.map(|value| value.max(-100.0)).collect()
        };
        folder.write("moments.npy", &[6, 8, 2, 3], NpySlice::F32(&rows(1.0)));
        let flipped = rows(-1.0);
        folder.write("moments_flip.npy", &[6, 8, 2, 3], NpySlice::F32(&flipped));
        folder.write("labels.npy", &[6], NpySlice::I64(&[0, 1, 2, 0, 1, 2]));
        folder.write_facts(FACTS);
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, shape: &[usize], data: NpySlice<'_>) {
        write_array(self.0.path(), name, shape, data);
    }

    fn write_facts(&self, text: &str) {
        fs::write(self.path("latents.toml"), text).unwrap();
    }

    fn open(&self) -> Result<Latents, DataError> {
        Latents::open(self.0.path(), 3, true)
    }
}

#[test]
fn latents_are_drawn_anew_at_every_step() {
    let folder = Folder::new();
    let latents = Latents::open(folder.0.path(), 3, false).unwrap();
    let sizes = (latents.len(), latents.shape(), latents.classes());
    assert_eq!(sizes, (6, &[4, 2, 3][..], 3));
    assert_eq!(latents.facts().vae, "sd-vae-ft-mse");
    let draw = latents.batch(&[5, 0, 2], 1, 9).unwrap();
    assert_eq!(draw, latents.batch(&[5, 0, 2], 1, 9).unwrap());
    assert_eq!(draw.labels, [2, 0, 2]);
    let other = latents.batch(&[5, 0, 2], 1, 10).unwrap();
    assert_ne!(draw.values[..24], other.values[..24]);
    // Cut off at −30, the standard deviation of sample 0 is 3e-7.
    assert!(draw.values[24..48].iter().all(|x| x.abs() < 1e-6));
    // Mean 5 and deviation 0.5, both times 0.5, over 200 steps of 24 numbers.
    let draws: Vec<f32> = (0..200)
        .flat_map(|step| latents.batch(&[5], 1, step).unwrap().values)
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
    let draw = latents.batch(&[4; 1000], 0, 0).unwrap();
    let rows = draw.values.chunks(24);
    let mirrored = rows.filter(|row| row.iter().sum::<f32>() < 0.0).count();
    // Binomial with standard deviation 16; five of them.
    assert!(mirrored.abs_diff(500) < 80, "{mirrored}");
}

#[test]
fn facts_are_written_as_they_are_read_and_a_shift_comes_off() {
    let folder = Folder::new();
    let plain = folder.open().unwrap();
    let facts = Facts {
        shift: 3.0,
        vae_sha256: Some("ab".to_owned()),
        ..plain.facts().clone()
    };
    assert_eq!(plain.facts().shift, 0.0);
    write_facts(folder.0.path(), &facts).unwrap();
    let shifted = folder.open().unwrap();
    assert_eq!(shifted.facts(), &facts);
    let [one, other] = [plain, shifted].map(|latents| latents.batch(&[4, 1], 1, 9).unwrap());
    for (value, shifted) in one.values.iter().zip(&other.values) {
        // Rounding in f32 of numbers below 10; the scale is 0.5.
        assert!((value - shifted - 1.5).abs() < 1e-5);
    }
    folder.write_facts("vae = \"x\"\nscale = 1.0\nshift = nan\n");
    refusal(folder.open(), "latents.toml");
}

#[test]
fn arrays_are_written_in_parts() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.npy");
    let parts = |parts: &[&[f32]]| {
        let parts = parts.iter().map(|part| Ok::<_, DataError>(part.to_vec()));
        npy::write_chunks(&path, &[3, 2], parts)
    };
    assert!(parts(&[&[1.0, 2.0]]).is_err());
    assert!(!path.exists());
    parts(&[&[1.0, 2.0], &[3.0, 4.0, 5.0, 6.0]]).unwrap();
    let array = npy::read(&path, 1 << 10).unwrap();
    assert_eq!(array.shape, [3, 2]);
    assert_eq!(array.data, NpyData::F32(vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0]));
}

#[test]
fn means_in_half_precision_are_only_scaled() {
    let folder = Folder::new();
    fs::remove_file(folder.path("moments.npy")).unwrap();
    refusal(folder.open(), "means.npy");
    let mut values = vec![0.0; 6 * 24];
    RngStream::new(0, Purpose::Data, 0).fill_normal(&mut values);
    let halves: Vec<f16> = values.iter().map(|&value| f16::from_f32(value)).collect();
    folder.write("means.npy", &[6, 4, 2, 3], NpySlice::F16(&halves));
    let latents = Latents::open(folder.0.path(), 0, false).unwrap();
    let draw = latents.batch(&[3, 1], 0, 0).unwrap();
    let row = |n: usize| halves[24 * n..24 * (n + 1)].iter();
    let expected = row(3).chain(row(1)).map(|value| value.to_f32() * 0.5);
    assert!(draw.values.iter().copied().eq(expected));
    assert!(draw.labels.is_empty() && latents.labels().is_empty());
}

#[test]
fn a_missing_file_is_named() {
    for name in ["latents.toml", "labels.npy", "moments_flip.npy"] {
        let folder = Folder::new();
        fs::remove_file(folder.path(name)).unwrap();
        refusal(folder.open(), name);
    }
}

#[test]
fn unusable_facts_are_refused() {
    for text in [
        "vae = \"x\"\n".to_owned(),
        format!("{FACTS}more = 1\n"),
        FACTS.replace("0.5", "nan"),
        FACTS.replace("0.5", "-0.5"),
        "#".repeat(70_000),
    ] {
        let folder = Folder::new();
        folder.write_facts(&text);
        refusal(folder.open(), "latents.toml");
    }
}

#[test]
fn arrays_that_do_not_fit_are_refused() {
    let (labels, moments) = ("labels.npy", "moments.npy");
    let cases: [(&str, &[usize], NpySlice<'_>); 9] = [
        (labels, &[6], NpySlice::I64(&[0, 1, 2, 3, 0, 0])),
        (labels, &[5], NpySlice::I64(&[0; 5])),
        (labels, &[7], NpySlice::I64(&[0; 7])),
        (labels, &[6], NpySlice::F32(&[0.0; 6])),
        ("moments_flip.npy", &[6, 2], NpySlice::F32(&[0.0; 12])),
        (moments, &[6, 7, 1, 1], NpySlice::F32(&[0.0; 42])),
        (moments, &[6, 8, 1, 1], NpySlice::F64(&[0.0; 48])),
        (moments, &[6, 8, 0, 1], NpySlice::F32(&[])),
        (moments, &[], NpySlice::F32(&[0.0])),
    ];
    for (name, shape, data) in cases {
        let folder = Folder::new();
        folder.write(name, shape, data);
        refusal(folder.open(), name);
    }
}

#[test]
fn rows_cannot_be_read_from_columns() {
    let folder = Folder::new();
    let path = folder.path("moments.npy");
    let mut bytes = fs::read(&path).unwrap();
    let (order, columns) = (b"'fortran_order': False", b"'fortran_order': True ");
    let mut windows = bytes.windows(order.len());
    let place = windows.position(|window| window == order).unwrap();
    bytes[place..place + columns.len()].copy_from_slice(columns);
    fs::write(&path, bytes).unwrap();
    let error = refusal(folder.open(), "moments.npy").to_string();
    assert!(error.contains("ascontiguousarray"), "{error}");
}

#[test]
fn a_label_out_of_range_is_refused_at_its_place() {
    let folder = Folder::new();
    folder.write("labels.npy", &[6], NpySlice::I64(&[0, 1, 2, -1, 0, 0]));
    let error = refusal(folder.open(), "labels.npy").to_string();
    // 128 bytes of header, three labels of 8.
    let message = "label at byte 152: expected 0..3, got -1";
    assert!(error.ends_with(message), "{error}");
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
    latents.batch(&[4], 0, 0).unwrap();
    let error = refusal(latents.batch(&[5], 0, 0), "moments.npy").to_string();
    let place = format!("element at byte {last}");
    assert!(error.contains(&place), "{error}");
    fs::write(folder.path("moments.npy"), &bytes[..last]).unwrap();
    refusal(latents.batch(&[5], 0, 0), "moments.npy");
}

/// What the library wrote into its safetensors files.
fn numbers(name: &str) -> Vec<f32> {
    let mut expected = Npz::open(&fixtures().join("latents.npz"), 1 << 20).unwrap();
    match expected.read(name).unwrap().data {
        NpyData::F32(values) => values,
        _ => panic!("{name}: not numbers"),
    }
}

#[test]
fn means_of_the_library_are_drawn_as_they_are() {
    let path = fixtures().join("means.safetensors");
    let means = Latents::open(&path, 0, false).unwrap();
    assert_eq!((means.len(), means.shape()), (5, &[4, 4, 6][..]));
    assert_eq!(means.facts().vae, "sd-vae-ft-mse");
    assert_eq!(means.facts().scale, 0.18215);
    let draw = means.batch(&[0, 1, 2, 3, 4], 0, 0).unwrap().values;
    let scaled = numbers("means").into_iter().map(|x| x * 0.18215);
    assert!(draw.into_iter().eq(scaled));
    let flipped = refusal(Latents::open(&path, 0, true), "means.safetensors");
    assert!(flipped.to_string().contains("means_flip"), "{flipped}");
    refusal(Latents::open(&path, 3, false), "means.safetensors");
}

#[test]
fn moments_of_the_library_are_drawn_as_those_of_arrays() {
    let folder = Folder(tempfile::tempdir().unwrap());
    let moments = numbers("moments");
    let labels = [0, 2, 1, 1, 0];
    folder.write("moments.npy", &[5, 8, 4, 6], NpySlice::F32(&moments));
    folder.write("labels.npy", &[5], NpySlice::I64(&labels));
    folder.write_facts("vae = \"x\"\nscale = 0.18215\n");
    let arrays = Latents::open(folder.0.path(), 3, false).unwrap();
    let tensors = Latents::open(&fixtures().join("moments.safetensors"), 3, false).unwrap();
    let all = [3, 0, 1, 4, 2];
    let [arrays, other] = [&arrays, &tensors].map(|latents| latents.batch(&all, 1, 2).unwrap());
    assert_eq!(arrays, other);
    assert_eq!(tensors.labels(), labels);
    let few = Latents::open(&fixtures().join("moments.safetensors"), 2, false);
    let few = refusal(few, "labels").to_string();
    assert!(few.contains("expected 0..2, got 2"), "{few}");
}

#[test]
fn a_folder_with_a_safetensors_file_is_opened_as_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = fs::read(fixtures().join("moments.safetensors")).unwrap();
    let path = folder.path().join("latents.safetensors");
    fs::write(&path, &bytes).unwrap();
    let whole = Latents::open(folder.path(), 3, true).unwrap();
    assert_eq!(whole.facts().vae, "sd-vae-ft-mse");
    for length in 0..bytes.len() {
        fs::write(&path, &bytes[..length]).unwrap();
        let cut = Latents::open(folder.path(), 3, false);
        refusal(cut, "latents.safetensors");
    }
}
