//! Files as cameras, browsers and other systems leave them: read as everybody else reads them, or refused by name.

mod common;

use std::fs;
use std::io::Cursor;
use std::path::Path;

use common::{deflated, fixtures, png_chunk, refusal};
use image::codecs::jpeg::JpegEncoder;
use image::{ImageFormat, RgbImage};
use meanflow_data::decode::{self, Channels, Reading, View};
use meanflow_data::{DataError, ImageArchive, Picture};

/// A picture that is its own only under the identity: 6 rows, 9 columns.
fn picture() -> RgbImage {
    RgbImage::from_fn(9, 6, |x, y| {
        image::Rgb([(x * 28) as u8, (y * 50) as u8, 90])
    })
}

fn jpeg() -> Vec<u8> {
    let mut bytes = Vec::new();
    let encoder = JpegEncoder::new_with_quality(&mut bytes, 95);
    picture().write_with_encoder(encoder).unwrap();
    bytes
}

fn decoded(bytes: &[u8]) -> Result<Picture, DataError> {
    decode::decode(Path::new("x.jpg"), bytes, Channels::Color)
}

fn find(bytes: &[u8], marker: u8) -> usize {
    bytes
        .windows(2)
        .position(|pair| pair == [0xff, marker])
        .unwrap()
}

/// Libjpeg looks for the next marker wherever one is due, and stops at the end of the first picture.
#[test]
fn stray_bytes_in_a_jpeg_change_nothing() {
    let plain = jpeg();
    let want = decoded(&plain).unwrap();
    let insert = |at: usize, stray: &[u8]| [&plain[..at], stray, &plain[at..]].concat();
    let (tables, scan, end) = (find(&plain, 0xdb), find(&plain, 0xda), plain.len() - 2);
    let thumbnail = [
        &[0xff, 0xe1][..],
        &((plain.len() + 8) as u16).to_be_bytes(),
        b"Exif\0\0",
        &plain,
    ]
    .concat();
    let cases = [
        ("before tables", insert(tables, &[0])),
        ("many before tables", insert(tables, &[7; 40])),
        ("before the scan", insert(scan, &[0, 0])),
        ("before the end", insert(end, &[0, 0, 0])),
        ("behind the end", insert(plain.len(), b"trailing")),
        ("another picture behind", insert(plain.len(), &plain)),
        ("fill bytes", insert(tables, &[0xff, 0xff])),
        ("a thumbnail", insert(2, &thumbnail)),
        ("a comment", insert(2, &[0xff, 0xfe, 0, 4, 0xff, 0xd9])),
    ];
    for (name, bytes) in cases {
        assert_eq!(decoded(&bytes).expect(name), want, "{name}");
    }
}

#[test]
fn every_cut_of_a_jpeg_is_refused() {
    let plain = jpeg();
    for length in 2..plain.len() {
        refusal(decoded(&plain[..length]), "x.jpg");
    }
}

#[test]
fn headers_that_are_not_read_are_refused_for_the_right_reason() {
    let plain = jpeg();
    let frame = find(&plain, 0xc0);
    let with = |place: usize, bytes: &[u8]| {
        let mut changed = plain.clone();
        changed[place..place + bytes.len()].copy_from_slice(bytes);
        decoded(&changed).unwrap_err().to_string()
    };
    assert!(with(frame + 1, &[0xc9]).contains("arithmetic"));
    assert!(with(frame + 1, &[0xc3]).contains("lossless"));
    assert!(with(frame + 4, &[12]).contains("12 bits"));
    assert!(with(frame + 5, &[0, 0]).contains("DNL"));
    let apple = [&b"\x89PNG\r\n\x1a\n"[..], &png_chunk(b"CgBI", &[0; 4])].concat();
    assert!(decoded(&apple).unwrap_err().to_string().contains("CgBI"));
}

#[test]
fn other_formats_are_named() {
    let cases: [(&[u8], &str); 10] = [
        (b"", "0 bytes"),
        (b"RIFF\x10\0\0\0WEBPVP8 ", "WebP"),
        (b"GIF89a", "GIF"),
        (b"BM\0\0", "BMP"),
        (b"II*\0\x08\0", "TIFF"),
        (b"\0\0\0\x1cftypavif", "AVIF"),
        (b"\0\0\0\x18ftypheic", "HEIC"),
        (b"<!DOCTYPE html><html>404", "HTML"),
        (b"version https://git-lfs.github.com/spec/v1", "Git LFS"),
        (b"\0\0\0\0\0\0\0\0", "zeros"),
    ];
    for (bytes, name) in cases {
        let error = refusal(decoded(bytes), "x.jpg").to_string();
        assert!(
            error.contains("PNG or JPEG") && error.contains(name),
            "{error}"
        );
    }
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a.webp"), "x").unwrap();
    fs::write(folder.path().join("b.webp"), "x").unwrap();
    let error = ImageArchive::open_folder(folder.path())
        .unwrap_err()
        .to_string();
    assert!(error.contains("2 × .webp"), "{error}");
}

/// Exif's eight orientations: where the first row and the first column of the stored picture belong.
#[test]
fn an_orientation_is_applied_where_that_is_asked_for() {
    let stored = decoded(&with_orientation(1)).unwrap();
    let pixel = |picture: &Picture, y: usize, x: usize| {
        let [_, width, _] = picture.shape();
        picture.pixels()[(y * width + x) * 3..][..3].to_vec()
    };
    for orientation in 1..=8 {
        let bytes = with_orientation(orientation);
        let plain = decoded(&bytes).unwrap();
        assert_eq!(plain, stored);
        let info = decode::info(Path::new("x.jpg"), &bytes).unwrap();
        assert_eq!(info.is_turned, orientation != 1);
        let view = View {
            background: None,
            apply_orientation: true,
        };
        let channels = Channels::Color;
        let reading = Reading { channels, view };
        let turned = decode::decode(Path::new("x.jpg"), &bytes, reading).unwrap();
        let (height, width) = (6, 9);
        for (y, x) in [(0, 0), (1, 3), (5, 8)] {
            let (below, right) = (height - 1 - y, width - 1 - x);
            let place = match orientation {
                1 => (y, x),
                2 => (y, right),
                3 => (below, right),
                4 => (below, x),
                5 => (x, y),
                6 => (x, below),
                7 => (right, below),
                _ => (right, y),
            };
            assert_eq!(
                pixel(&turned, place.0, place.1),
                pixel(&stored, y, x),
                "{orientation}"
            );
        }
    }
}

/// The picture with an Exif segment that has one entry.
fn with_orientation(orientation: u16) -> Vec<u8> {
    let plain = jpeg();
    let mut exif = b"Exif\0\0MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01".to_vec();
    exif.extend(orientation.to_be_bytes());
    exif.extend([0; 6]);
    let length = ((exif.len() + 2) as u16).to_be_bytes();
    [&plain[..2], &[0xff, 0xe1], &length, &exif, &plain[2..]].concat()
}

/// A profile of 40 MB in 40 kB: it is never inflated, and the pixels are read.
#[test]
fn a_png_is_read_without_its_profile() {
    let mut bytes = Cursor::new(Vec::new());
    picture().write_to(&mut bytes, ImageFormat::Png).unwrap();
    let bytes = bytes.into_inner();
    let profile = [&b"x\0\0"[..], &deflated(&vec![0; 40 << 20])].concat();
    let bomb = [&bytes[..33], &png_chunk(b"iCCP", &profile), &bytes[33..]].concat();
    assert_eq!(
        decoded(&bomb).unwrap().pixels(),
        picture().as_raw().as_slice()
    );
}

/// The decoder panics at 49 bytes of a palette; cargo-fuzz found it.
#[test]
fn palettes_that_are_none_are_refused() {
    let good = fs::read(fixtures().join("modes/palette_clear.png")).unwrap();
    let begin = |name: &[u8; 4]| good.windows(4).position(|window| window == name).unwrap() - 4;
    let (plte, trns) = (begin(b"PLTE"), begin(b"tRNS"));
    for length in [0, 1, 49, 3 * 256 + 1, 3 * 257] {
        let palette = png_chunk(b"PLTE", &vec![7; length]);
        let bytes = [&good[..plte], &palette, &good[trns..]].concat();
        let error = decoded(&bytes).unwrap_err().to_string();
        assert!(error.contains(&format!("got {length} bytes")), "{error}");
    }
}

#[cfg(unix)]
#[test]
fn pipes_and_devices_are_refused_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("a.png");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.unwrap().success());
    let error = refusal(ImageArchive::open_folder(folder.path()), "a.png").to_string();
    assert!(error.contains("a named pipe"), "{error}");
    let device = Path::new("/dev/zero");
    for error in [
        ImageArchive::open_zip(device).unwrap_err(),
        ImageArchive::open_tar(device).unwrap_err(),
        meanflow_data::npy::read(device, 1 << 30).unwrap_err(),
        meanflow_data::npz::Npz::open(&pipe, 1 << 30).unwrap_err(),
        meanflow_data::idx::read_pair(&pipe, &pipe).unwrap_err(),
        meanflow_data::latents::Latents::open(&pipe, 0, false).unwrap_err(),
    ] {
        assert!(error.to_string().contains("a regular file"), "{error}");
    }
}

#[cfg(unix)]
#[test]
fn links_stay_inside_of_a_folder_unless_they_may_leave() {
    use meanflow_data::Links;
    let folder = tempfile::tempdir().unwrap();
    let (root, outside) = (folder.path().join("root"), folder.path().join("outside"));
    for path in [&root, &outside] {
        fs::create_dir(path).unwrap();
        fs::write(path.join("a.png"), "x").unwrap();
    }
    let link = |to: &Path, name: &str| std::os::unix::fs::symlink(to, root.join(name)).unwrap();
    link(Path::new("a.png"), "b.png");
    assert_eq!(ImageArchive::open_folder(&root).unwrap().len(), 2);
    link(&outside.join("a.png"), "c.png");
    let error = refusal(ImageArchive::open_folder(&root), "c.png").to_string();
    assert!(error.contains("follow_links"), "{error}");
    assert_eq!(
        ImageArchive::open_folder_by(&root, Links::Follow)
            .unwrap()
            .len(),
        3
    );
    fs::remove_file(root.join("c.png")).unwrap();
    for name in ["a.png", "b.png"] {
        fs::remove_file(root.join(name)).unwrap();
    }
    link(&outside, "class");
    refusal(ImageArchive::open_folder(&root), "class");
}

#[test]
fn a_path_of_another_kind_is_refused_with_the_kind_that_fits() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    fs::write(root.join("a.png"), "x").unwrap();
    let error = refusal(ImageArchive::open_zip(root), root.to_str().unwrap()).to_string();
    assert!(error.contains("a folder (`kind = \"folder\"`"), "{error}");
    let zip = root.join("a.zip");
    fs::write(&zip, [&b"PK\x03\x04"[..], &[0; 1020]].concat()).unwrap();
    let error = refusal(ImageArchive::open_folder(&zip), "a.zip").to_string();
    assert!(error.contains("`kind = \"zip\"`"), "{error}");
    let error = refusal(ImageArchive::open_tar(&zip), "a.zip").to_string();
    assert!(
        error.contains("expected a tar archive, got a zip archive"),
        "{error}"
    );
}
