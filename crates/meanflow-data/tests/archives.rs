//! Archives and labels as other systems write them: nothing is lost in silence, and nothing taken for what it is not.

mod common;

use std::fs;
use std::path::Path;

use common::{array_of, fixtures, opened, refusal, tarred, write_array, zip_of, zipped};
use meanflow_data::latents::Latents;
use meanflow_data::npy::{self, NpyData};
use meanflow_data::npz::Npz;
use meanflow_data::pack::{Packing, pack};
use meanflow_data::renumber::{Renumbered, empty_classes};
use meanflow_data::{
    DataError, Dataset, ImageArchive, Links, MemoryDataset, Opened, Picture, idx, open,
};

/// A grey picture of 2×2 pixels.
fn png(value: u8) -> Vec<u8> {
    Picture::new([2, 2, 1], vec![value; 4])
        .unwrap()
        .to_png()
        .unwrap()
}

fn tar_of(members: &[(&str, &[u8])]) -> Result<ImageArchive, DataError> {
    opened(&tarred(members), ImageArchive::open_tar)
}

#[test]
fn what_macos_adds_is_passed_over_and_counted() {
    let (picture, twin) = (png(1), b"\0\x05\x16\x07".to_vec());
    let labels = br#"{"labels": [["a.png", 0]]}"#;
    let members: [&[(&str, &[u8])]; 4] = [
        &[("a.png", &picture), ("__MACOSX/._a.png", &twin)],
        &[
            ("a.png", &picture),
            ("__MACOSX/._a.png", &twin),
            ("dataset.json", labels),
        ],
        &[("x/a.png", &picture), ("x/._a.png", &twin)],
        &[("x/a.png", &picture), ("x/.DS_Store", &twin)],
    ];
    for members in members {
        for archive in [zip_of(members).unwrap(), tar_of(&members[..2]).unwrap()] {
            assert_eq!((archive.len(), archive.ignored()), (1, 1), "{members:?}");
        }
    }
    assert_eq!(zip_of(members[1]).unwrap().labels(), [0]);
}

#[test]
fn labels_are_found_from_the_top_and_from_their_folder() {
    let picture = png(1);
    let with = |json: &str, name: &str| {
        zip_of(&[
            ("d/a.png", &picture),
            ("d/b.png", &picture),
            (name, json.as_bytes()),
        ])
    };
    let from_folder = r#"{"labels": [["b.png", 1], ["a.png", 0]]}"#;
    let from_top = r#"{"labels": [["d/b.png", 1], ["d/a.png", 0]]}"#;
    for (json, name) in [
        (from_folder, "d/dataset.json"),
        (from_top, "d/dataset.json"),
        (from_top, "dataset.json"),
    ] {
        let archive = with(json, name).unwrap();
        assert_eq!(
            (archive.labels(), archive.ignored()),
            (&[0, 1][..], 0),
            "{name}"
        );
        assert!(archive.remarks().is_empty());
    }
    let stray = r#"{"labels": [["b.png", 1], ["a.png", 0], ["c.png", 7], ["e.png", 7]]}"#;
    let archive = with(stray, "d/dataset.json").unwrap();
    assert_eq!(archive.classes(), 2);
    let remarks = archive.remarks().join("\n");
    assert!(
        remarks.contains("2 files") && remarks.contains("c.png"),
        "{remarks}"
    );
    refusal(
        with(r#"{"labels": [["a.png", 0]]}"#, "d/dataset.json"),
        "dataset.json",
    );
    let two = zip_of(&[
        ("a.png", &picture),
        ("dataset.json", b"{}"),
        ("d/dataset.json", b"{}"),
    ]);
    assert!(two.unwrap_err().to_string().contains("d/dataset.json"));
}

#[test]
fn folders_in_an_archive_are_classes_where_there_are_no_labels() {
    let picture = png(1);
    let of = |names: &[&str]| {
        let members: Vec<(&str, &[u8])> = names.iter().map(|name| (*name, &picture[..])).collect();
        zip_of(&members).unwrap()
    };
    let names = |archive: &ImageArchive| archive.class_names().map(|names| names.join(" "));
    let archive = of(&["top/dog/1.png", "top/cat/1.png", "top/cat/x/2.png"]);
    assert_eq!(
        (archive.labels(), names(&archive)),
        (&[0, 0, 1][..], Some("cat dog".to_owned()))
    );
    let mixed = of(&["1.png", "cat/1.png"]);
    assert_eq!((mixed.classes(), mixed.remarks().len()), (0, 1));
    let flat = of(&["top/1.png", "top/2.png"]);
    assert_eq!((flat.classes(), flat.remarks().len()), (0, 0));
}

#[test]
fn folders_that_are_numbers_are_sorted_as_numbers_and_others_as_torchvision_does() {
    let order = |names: &[&str]| {
        let folder = tempfile::tempdir().unwrap();
        for name in names {
            fs::create_dir(folder.path().join(name)).unwrap();
            fs::write(folder.path().join(name).join("1.png"), png(1)).unwrap();
        }
        let opened = ImageArchive::open_folder(folder.path()).unwrap();
        (
            opened.class_names().unwrap().join(" "),
            opened.remarks().len(),
        )
    };
    let numbers: Vec<String> = (0..12).map(|number| number.to_string()).collect();
    let names: Vec<&str> = numbers.iter().map(String::as_str).collect();
    assert_eq!(order(&names), ("0 1 2 3 4 5 6 7 8 9 10 11".to_owned(), 1));
    assert_eq!(order(&["00", "01", "10"]), ("00 01 10".to_owned(), 0));
    assert_eq!(order(&["10", "9", "a"]), ("10 9 a".to_owned(), 0));
    assert_eq!(
        order(&["class10", "class9", "Class8"]),
        ("Class8 class10 class9".to_owned(), 0)
    );
}

#[test]
fn a_label_may_have_parts_before_its_ending() {
    let picture = png(1);
    let labels = |inner: &str, end: &str| {
        let members = [
            (format!("k0.{inner}png"), picture.clone()),
            (format!("k0.{end}"), b"1".to_vec()),
            (format!("k1.{inner}png"), picture.clone()),
            (format!("k1.{end}"), b"0\n".to_vec()),
        ];
        let members: Vec<_> = members
            .iter()
            .map(|(name, data)| (&**name, &data[..]))
            .collect();
        tar_of(&members).unwrap()
    };
    for (inner, end) in [
        ("", "cls"),
        ("image.", "label.cls"),
        ("", "cls.txt"),
        ("", "CLS"),
    ] {
        assert_eq!(labels(inner, end).labels(), [1, 0], "{end}");
    }
    let missed = labels("", "label");
    assert_eq!(missed.classes(), 0);
    assert!(missed.remarks()[0].contains("KEY.cls") && missed.remarks()[0].contains("k0.label"));
    let two = tar_of(&[("k.png", &picture), ("k.a.cls", b"1"), ("k.b.cls", b"2")]);
    assert!(two.unwrap_err().to_string().contains("one .cls"));
}

#[test]
fn names_of_classes_go_through_a_packed_archive() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["b, c", "ä"] {
        let class = folder.path().join("in").join(name);
        fs::create_dir_all(&class).unwrap();
        fs::write(class.join("1.png"), png(3)).unwrap();
    }
    let pictures = ImageArchive::open(&folder.path().join("in")).unwrap();
    let archive = folder.path().join("out.ZIP");
    pack(&pictures, Packing::AsTheyAre, &archive, |_| ()).unwrap();
    let packed = ImageArchive::open(&archive).unwrap();
    assert_eq!(packed.class_names(), pictures.class_names());
    assert_eq!(packed.labels(), [0, 1]);
}

#[test]
fn files_of_mnist_are_found_with_dots_and_named_where_they_are_not() {
    let fixture = fixtures().join("idx");
    let folder = tempfile::tempdir().unwrap();
    let copy = |from: &str, to: &str| fs::copy(fixture.join(from), folder.path().join(to)).unwrap();
    copy("train-labels-idx1-ubyte.gz", "train-labels.idx1-ubyte.gz");
    copy(
        "train-images-idx3-ubyte.gz",
        "emnist-train-images-idx3-ubyte.gz",
    );
    let error = idx::read_directory(folder.path()).unwrap_err().to_string();
    assert!(
        error.contains("train-images-idx3-ubyte") && error.contains("emnist-train-images"),
        "{error}"
    );
    copy("train-images-idx3-ubyte.gz", "train-images.idx3-ubyte.gz");
    let found = idx::read_directory(folder.path()).unwrap();
    let plain = idx::read_directory(&fixture).unwrap();
    assert_eq!(found.fingerprint(), plain.fingerprint());
    assert!(matches!(
        open(folder.path(), Links::Inside),
        Ok(Opened::Samples(_))
    ));
}

/// A `.npy` array of two labels, 1 and 200 or as much of it as fits.
fn labels_of(dtype: &str, bytes: &[u8]) -> Result<npy::NpyArray, DataError> {
    let file = array_of(dtype, "False", "(2,)", bytes);
    opened(&file, |path| npy::read(path, 1 << 10))
}

#[test]
fn labels_of_any_integer_type_are_labels() {
    for (dtype, bytes, other) in [
        ("|u1", 1, 200),
        ("|i1", 1, -56),
        ("<i2", 2, -2),
        ("<u2", 2, 60_000),
        ("<i4", 4, -70_000),
        ("<u4", 4, u32::MAX.into()),
        ("<i8", 8, i64::MIN),
        ("<u8", 8, 7),
    ] {
        // The lower bytes of a number are those of the shorter one.
        let elements = [1, other].map(|label: i64| label.to_le_bytes()[..bytes].to_vec());
        let read = labels_of(dtype, &elements.concat()).unwrap();
        assert_eq!(read.labels().unwrap(), [1, other], "{dtype}");
    }
    let refused = |dtype, bytes: &[u8]| labels_of(dtype, bytes).unwrap_err().to_string();
    assert!(refused("<u8", &[0xff; 16]).contains("2⁶³"));
    assert!(refused(">i4", &[0; 8]).contains("little-endian"));
    let floats = labels_of("<f4", &[0; 8]).unwrap();
    assert!(matches!(floats.data, NpyData::F32(_)) && floats.labels().is_none());
}

#[test]
fn arrays_in_fortran_order_are_read_into_c_order() {
    let read = |dtype, shape, elements: &[u8]| {
        let file = array_of(dtype, "True", shape, elements);
        opened(&file, |path| npy::read(path, 1 << 10)).unwrap()
    };
    // The element at [i, j, k] of `numpy.asfortranarray` of this shape is 100 i + 10 j + k.
    let [rows, columns, layers] = [2, 3, 4];
    let number = |i: u8, j: u8, k: u8| 100 * i + 10 * j + k;
    let (mut stored, mut expected) = (Vec::new(), Vec::new());
    for k in 0..layers {
        for j in 0..columns {
            stored.extend((0..rows).map(|i| number(i, j, k)));
        }
    }
    for i in 0..rows {
        for j in 0..columns {
            expected.extend((0..layers).map(|k| number(i, j, k)));
        }
    }
    let array = read("|u1", "(2, 3, 4)", &stored);
    assert_eq!(array.shape, [2, 3, 4]);
    assert_eq!(array.data, NpyData::U8(expected));
    let floats = [1.0_f64, 3.0, 2.0, 4.0].map(f64::to_le_bytes).concat();
    let array = read("<f8", "(2, 2)", &floats);
    assert_eq!(array.data, NpyData::F64(vec![1.0, 2.0, 3.0, 4.0]));
    // Axes of an empty array are as long as they like.
    let long = "(18446744073709551615, 0, 18446744073709551615)";
    assert_eq!(read("<f8", long, &[]).data, NpyData::F64(vec![]));
}

#[test]
fn an_archive_of_arrays_may_hold_notes() {
    let x = array_of("|u1", "False", "(3,)", &[1, 2, 3]);
    let file = zipped(&[("note.json", b"{}"), ("x.npy", &x)]);
    let mut archive = opened(&file, |path| Npz::open(path, 1 << 30)).unwrap();
    assert_eq!(archive.names(), ["x"]);
    assert_eq!(archive.read("x").unwrap().labels().unwrap(), [1, 2, 3]);
}

#[test]
fn latents_are_opened_with_whatever_classes_they_have() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, shape: &[usize], data| write_array(folder.path(), name, shape, data);
    write("means.npy", &[3, 1, 2, 2], npy::NpySlice::F32(&[0.5; 12]));
    let facts = |text: &str| fs::write(folder.path().join("latents.toml"), text).unwrap();
    facts("vae = \"x\"\nscale = 0.5\n");
    assert_eq!(Latents::open_as_found(folder.path()).unwrap().classes(), 0);
    write("labels.npy", &[3], npy::NpySlice::U8(&[0, 4, 1]));
    let found = Latents::open_as_found(folder.path()).unwrap();
    assert_eq!((found.classes(), found.labels()), (5, &[0, 4, 1][..]));
    assert_eq!(
        Latents::open(folder.path(), 5, false).unwrap().labels(),
        [0, 4, 1]
    );
    assert!(matches!(
        open(folder.path(), Links::Inside),
        Ok(Opened::Samples(_))
    ));
    for scale in ["1e300", "1e-30", "0.0", "-1.0", "inf", "nan"] {
        facts(&format!("vae = \"x\"\nscale = {scale}\n"));
        refusal(Latents::open_as_found(folder.path()), "latents.toml");
    }
}

#[test]
fn classes_without_samples_are_found_and_can_be_left_out() {
    let bytes = (0..5).collect::<Vec<u8>>();
    let data = MemoryDataset::from_pictures(bytes, [1, 1, 1], vec![4, 1, 1, 4, 2], 6).unwrap();
    assert_eq!(empty_classes(&data), [0, 3, 5]);
    let renumbered = Renumbered::new(Box::new(data.clone()));
    assert_eq!(
        (renumbered.classes(), renumbered.labels()),
        (3, &[2, 0, 0, 2, 1][..])
    );
    assert_eq!(renumbered.class_names().unwrap(), ["1", "2", "4"]);
    assert_eq!(empty_classes(&renumbered), [0_usize; 0]);
    let drawn = renumbered.batch(&[4, 0], 0, 0).unwrap();
    let plain = data.examples(&[4, 0]);
    assert_eq!((drawn.labels, drawn.values), (vec![1, 2], plain.values));
    assert!(renumbered.remarks()[0].contains("0 is 1, 1 is 2, 2 is 4"));
}

/// The fingerprints of a folder, a zip and a tar archive of these grey pictures.
fn fingerprints(pictures: &[(&str, u8)]) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    for (name, value) in pictures {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, png(*value)).unwrap();
    }
    let mut found = vec![
        ImageArchive::open_folder(folder.path())
            .unwrap()
            .fingerprint()
            .unwrap(),
    ];
    let files = pictures.iter().map(|(name, value)| (*name, png(*value)));
    let files: Vec<_> = files.collect();
    let members: Vec<_> = files
        .iter()
        .map(|(name, data)| (*name, &data[..]))
        .collect();
    for archive in [zip_of(&members), tar_of(&members)] {
        found.push(archive.unwrap().fingerprint().unwrap());
    }
    found
}

/// The law of a fingerprint: it is that of the data, not of their place, and every change is another one.
#[test]
fn a_fingerprint_is_of_the_data_and_not_of_their_place() {
    let plain = fingerprints(&[("a/1.png", 7), ("b/2.png", 9)]);
    assert_eq!(plain, fingerprints(&[("a/1.png", 7), ("b/2.png", 9)]));
    let changes: [&[(&str, u8)]; 4] = [
        &[("a/1.png", 7), ("b/2.png", 8)],
        &[("a/1.png", 7), ("b/3.png", 9)],
        &[("a/1.png", 7), ("c/2.png", 9)],
        &[("a/1.png", 7), ("b/2.png", 9), ("b/3.png", 9)],
    ];
    for change in changes {
        let other = fingerprints(change);
        assert!(
            plain.iter().zip(&other).all(|(one, other)| one != other),
            "{change:?}"
        );
    }
    let samples = |labels, value| {
        MemoryDataset::from_pictures(vec![1, value], [1, 1, 1], labels, 2)
            .unwrap()
            .fingerprint()
    };
    assert_ne!(samples(vec![0, 1], 2), samples(vec![1, 0], 2));
    assert_ne!(samples(vec![0, 1], 2), samples(vec![0, 1], 3));
}

#[test]
fn one_function_opens_whatever_a_path_names() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    fs::write(root.join("SHARD.TAR"), tarred(&[("a.png", &png(1))])).unwrap();
    assert!(matches!(open(root, Links::Inside), Ok(Opened::Pictures(found)) if found.len() == 1));
    assert!(matches!(
        open(&root.join("SHARD.TAR"), Links::Inside),
        Ok(Opened::Pictures(_))
    ));
    assert!(matches!(
        open(Path::new("digits"), Links::Inside),
        Ok(Opened::Samples(_))
    ));
    let fixture = fixtures().join("moments.safetensors");
    let Opened::Samples(latents) = open(&fixture, Links::Inside).unwrap() else {
        panic!("latents are samples")
    };
    assert!(latents.latents().is_some());
    fs::write(root.join("a.tar.gz"), "x").unwrap();
    let error = refusal(open(&root.join("a.tar.gz"), Links::Inside), "a.tar.gz").to_string();
    assert!(error.contains("unpacked"), "{error}");
    refusal(open(&root.join("nothing"), Links::Inside), "nothing");
}
