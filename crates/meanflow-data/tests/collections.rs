//! Collections made by torchvision's layout, zipfile and webdataset: read in place, in the same order, to the byte.

mod common;

use std::fs;

use common::{fixtures, opened, picture, refusal, zip_of, zipped};
use meanflow_data::decode::Channels;
use meanflow_data::npy::NpyData;
use meanflow_data::npz::Npz;
use meanflow_data::{BadPictures, DataError, Dataset, ImageArchive, ImageDataset, Picture};
use serde_json::Value;

/// Farthest apart that libjpeg-turbo and zune-jpeg decode a file without halved colours; PNG is exact.
fn assert_same(one: &Picture, other: &Picture, name: &str) {
    assert_eq!(one.shape(), other.shape(), "{name}");
    let pairs = one.pixels().iter().zip(other.pixels());
    let far = pairs.map(|(a, b)| a.abs_diff(*b)).max().unwrap();
    let is_png = name.to_ascii_lowercase().ends_with("png");
    assert!(far <= if is_png { 0 } else { 2 }, "{name}: {far}");
}

#[test]
fn a_folder_is_in_the_order_of_torchvision() {
    let text = fs::read_to_string(fixtures().join("folder.json")).unwrap();
    let expected: Value = serde_json::from_str(&text).unwrap();
    let folder = ImageArchive::open_folder(&fixtures().join("folder")).unwrap();
    let names: Vec<_> = (0..folder.len()).map(|index| folder.name(index)).collect();
    assert_eq!(serde_json::json!(names), expected["names"]);
    assert_eq!(serde_json::json!(folder.labels()), expected["labels"]);
    assert_eq!(serde_json::json!(folder.class_names()), expected["classes"]);
    assert_eq!((folder.classes(), folder.ignored()), (3, 0));
    let mut pixels = Npz::open(&fixtures().join("folder.npz"), 1 << 20).unwrap();
    for index in 0..folder.len() {
        let decoded = folder.decode(index, Channels::Color).unwrap();
        assert_same(
            &decoded,
            &picture(&mut pixels, &index.to_string()),
            folder.name(index),
        );
    }
}

#[test]
fn archives_hold_what_independent_tools_put_there() {
    let mut expected = Npz::open(&fixtures().join("archives.npz"), 1 << 20).unwrap();
    let NpyData::I64(labels) = expected.read("labels").unwrap().data else {
        panic!("labels are int64")
    };
    let open = |name: &str| {
        let path = fixtures().join(name);
        if name.ends_with("zip") {
            ImageArchive::open_zip(&path).unwrap()
        } else {
            ImageArchive::open_tar(&path).unwrap()
        }
    };
    for name in ["stored.zip", "deflated.zip", "shard.tar"] {
        let archive = open(name);
        assert_eq!((archive.len(), archive.classes()), (6, 3), "{name}");
        assert_eq!(archive.labels(), labels, "{name}");
        for index in 0..archive.len() {
            let decoded = archive.decode(index, Channels::Color).unwrap();
            let name = archive.name(index).to_owned();
            assert_same(&decoded, &picture(&mut expected, &index.to_string()), &name);
            let again = open("stored.zip").read(index).unwrap();
            assert_eq!(archive.read(index).unwrap(), again, "{name}");
        }
    }
    let tar = open("shard.tar");
    assert_eq!((tar.name(0), tar.ignored()), ("sample000.png", 6));
    // A name beyond the hundred bytes of a header.
    assert_eq!(tar.name(5), format!("{}sample005.jpg", "long/".repeat(30)));
}

#[test]
fn a_folder_of_shards_is_read_in_the_order_of_names() {
    let folder = tempfile::tempdir().unwrap();
    let shard = fs::read(fixtures().join("shard.tar")).unwrap();
    fs::write(folder.path().join("b.tar"), &shard).unwrap();
    assert_eq!(ImageArchive::open_tar(folder.path()).unwrap().len(), 6);
    // The same keys again.
    fs::write(folder.path().join("a.tar"), &shard).unwrap();
    let error = refusal(ImageArchive::open_tar(folder.path()), "b.tar").to_string();
    assert!(error.contains("key of a sample"), "{error}");
}

#[test]
fn a_flat_folder_has_no_classes_and_a_mixed_one_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    refusal(ImageArchive::open_folder(root), root.to_str().unwrap());
    let png = fs::read(fixtures().join("modes/rgb.png")).unwrap();
    for name in ["b.png", "a.PNG", "c.jpeg", "notes.txt", ".hidden.png"] {
        fs::write(root.join(name), &png).unwrap();
    }
    let flat = ImageArchive::open_folder(root).unwrap();
    let names: Vec<_> = (0..flat.len()).map(|index| flat.name(index)).collect();
    assert_eq!(names, ["a.PNG", "b.png", "c.jpeg"]);
    assert_eq!(
        (flat.classes(), flat.labels(), flat.ignored()),
        (0, &[][..], 2)
    );
    fs::create_dir(root.join("class")).unwrap();
    let error = refusal(ImageArchive::open_folder(root), root.to_str().unwrap()).to_string();
    assert!(error.contains("a.PNG"), "{error}");
    for name in ["b.png", "a.PNG", "c.jpeg"] {
        fs::remove_file(root.join(name)).unwrap();
    }
    refusal(ImageArchive::open_folder(root), "class");
}

/// A folder of ten pictures in two classes, two of them damaged.
fn damaged() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let pixels = |value: u8| vec![value; 4 * 5 * 3];
    for index in 0..10_u8 {
        let class = folder.path().join(if index < 5 { "a" } else { "b" });
        fs::create_dir_all(&class).unwrap();
        let path = class.join(format!("{index}.png"));
        let picture = Picture::new([4, 5, 3], pixels(20 * index)).unwrap();
        picture.write_png(&path).unwrap();
        if [4, 7].contains(&index) {
            let bytes = fs::read(&path).unwrap();
            fs::write(&path, &bytes[..bytes.len() - 20]).unwrap();
        }
    }
    folder
}

#[test]
fn bad_pictures_are_an_error_or_replaced_by_the_next_and_listed() {
    let folder = damaged();
    let set = |bad| {
        let collection = ImageArchive::open_folder(folder.path()).unwrap();
        ImageDataset::new(collection, 2, Channels::Color, bad).unwrap()
    };
    let strict = set(BadPictures::Refuse);
    assert_eq!((strict.shape(), strict.len()), (&[3, 2, 2][..], 10));
    assert_eq!(strict.batch(&[3, 0], 0, 0).unwrap().labels, [0, 0]);
    refusal(strict.batch(&[3, 4], 0, 0), "4.png");
    assert!(strict.skipped().is_empty());

    let lenient = set(BadPictures::Skip(0.2));
    let all: Vec<usize> = (0..10).collect();
    let examples = lenient.batch(&all, 0, 0).unwrap();
    // 4 is replaced by 5, of another class, and 7 by 8.
    assert_eq!(examples.labels, [0, 0, 0, 0, 1, 1, 1, 1, 1, 1]);
    let values: Vec<_> = examples.values.chunks(12).map(|row| row[0]).collect();
    assert_eq!((values[4], values[7]), (values[5], values[8]));
    let skipped = lenient.skipped();
    assert_eq!(skipped.len(), 2);
    assert!(skipped[0].0.ends_with("a/4.png") && skipped[1].0.ends_with("b/7.png"));
    // One is allowed, the second is an error.
    refusal(set(BadPictures::Skip(0.1)).batch(&all, 0, 0), "7.png");
    for share in [-0.1, 1.0, f64::NAN] {
        let collection = ImageArchive::open_folder(folder.path()).unwrap();
        let set = ImageDataset::new(collection, 2, Channels::Color, BadPictures::Skip(share));
        assert!(set.is_err());
    }
}

#[test]
fn names_that_lead_out_of_an_archive_are_refused() {
    for name in [
        "../a.png",
        "a/../../b.png",
        "/a.png",
        "a\\..\\b.png",
        "C:/a.png",
    ] {
        let error = zip_of(&[(name, b"x")]).unwrap_err().to_string();
        assert!(error.contains("name of a member"), "{error}");
        let mut header = tar::Header::new_ustar();
        let field = &mut header.as_mut_bytes()[..name.len()];
        field.copy_from_slice(name.as_bytes());
        header.set_size(0);
        header.set_entry_type(tar::EntryType::Regular);
        header.set_cksum();
        let error = open_tar(&[&header.as_bytes()[..], &[0; 1024]].concat()).unwrap_err();
        assert!(error.to_string().contains("name of a member"), "{error}");
    }
    zip_of(&[("a..b/c.png", b"x")]).unwrap();
}

fn open_tar(bytes: &[u8]) -> Result<ImageArchive, DataError> {
    opened(bytes, ImageArchive::open_tar)
}

#[test]
fn links_and_devices_in_a_tar_are_refused() {
    use tar::EntryType::{Block, Fifo, GNUSparse, Link, Symlink};
    for kind in [Block, Fifo, GNUSparse, Link, Symlink] {
        let mut header = tar::Header::new_gnu();
        header.set_path("a.png").unwrap();
        header.set_size(0);
        header.set_entry_type(kind);
        header.set_cksum();
        let error = open_tar(&[&header.as_bytes()[..], &[0; 1024]].concat()).unwrap_err();
        assert!(error.to_string().contains("kind of a member"), "{error}");
    }
}

#[test]
fn two_names_for_the_same_bytes_are_refused() {
    let mut twice = zipped(&[("a.png", b"aaaa"), ("b.png", b"aaaa")]);
    let second = twice.windows(4).rposition(|w| w == b"PK\x01\x02").unwrap();
    twice[second + 42..second + 46].fill(0);
    let error = opened(&twice, ImageArchive::open_zip).unwrap_err();
    assert!(error.to_string().contains("members"), "{error}");
}

/// Forty megabytes in forty kilobytes: less than a picture file may have, and more than one may grow by.
#[test]
fn bombs_are_refused_before_they_are_inflated() {
    let (zeros, spaces) = (vec![0; 40 << 20], vec![b' '; 30 << 20]);
    let picture: &[(&str, &[u8])] = &[("a.png", &zeros)];
    for members in [picture, &[("a.png", b"x"), ("dataset.json", &spaces)]] {
        let error = zip_of(members).unwrap_err().to_string();
        assert!(error.contains("inflated size in bytes"), "{error}");
    }
}

#[test]
fn labels_that_do_not_fit_are_refused() {
    let with = |json: &str| zip_of(&[("a.png", b"x"), ("dataset.json", json.as_bytes())]);
    assert_eq!(with(r#"{"labels": [["a.png", 4]]}"#).unwrap().classes(), 5);
    assert_eq!(with(r#"{"labels": null}"#).unwrap().classes(), 0);
    for json in [
        "{",
        r#"{"labels": [["b.png", 4]]}"#,
        r#"{"labels": [["a.png", -1]]}"#,
        r#"{"labels": [["a.png", 4.5]]}"#,
        r#"{"labels": [["a.png", [0, 1]]]}"#,
        r#"{"labels": [["a.png", 99999999999]]}"#,
    ] {
        assert!(with(json).is_err(), "{json}");
    }
}
