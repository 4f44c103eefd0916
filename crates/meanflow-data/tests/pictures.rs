//! Pictures made by Pillow: decoded and resized to the same numbers. `fixtures/make.py` made the files.

mod common;

use std::collections::HashMap;
use std::fs;

use common::{fixtures, picture};
use meanflow_data::decode::{self, Background, Channels, Reading, View};
use meanflow_data::npz::Npz;
use meanflow_data::resize::{self, Filter};
use meanflow_data::{DataError, Picture};

/// How far two pictures of one shape are apart at most.
fn distance(one: &Picture, other: &Picture) -> u8 {
    assert_eq!(one.shape(), other.shape());
    let pairs = one.pixels().iter().zip(other.pixels());
    pairs.map(|(a, b)| a.abs_diff(*b)).max().unwrap()
}

fn decoded(name: &str, channels: Channels) -> Result<Picture, DataError> {
    let path = fixtures().join("modes").join(name);
    let view = View {
        background: Some(Background::KeepRgb),
        apply_orientation: false,
    };
    decode::decode(&path, &fs::read(&path).unwrap(), Reading { channels, view })
}

#[test]
fn every_way_to_store_pixels_is_read_as_pillow_reads_it() {
    let mut expected = Npz::open(&fixtures().join("modes.npz"), 1 << 20).unwrap();
    let names: Vec<String> = expected.names().to_vec();
    assert_eq!(names.len(), 15);
    let mut apart = HashMap::new();
    for name in &names {
        let (file, channels) = match name.strip_suffix(" as grey") {
            Some(file) => (file, Channels::Grey),
            None => (name.as_str(), Channels::Color),
        };
        let far = distance(
            &decoded(file, channels).unwrap(),
            &picture(&mut expected, name),
        );
        apart.insert(name.as_str(), far);
    }
    // PNG is exact. The standard leaves the rounding of the cosine transform, and how halved colours are widened, to the
    // decoder of JPEG: libjpeg-turbo and zune-jpeg are 2 and 6 apart in these files.
    for (name, far) in apart {
        let limit = match name {
            "subsampled.jpg" | "progressive.jpg" | "restarts.jpg" => 6,
            name if name.ends_with(".jpg") => 2,
            _ => 0,
        };
        assert!(far <= limit, "{name}: {far}");
    }
}

#[test]
fn bytes_are_resized_as_by_pillow() {
    let mut archive = Npz::open(&fixtures().join("resizes.npz"), 1 << 20).unwrap();
    let names: Vec<String> = archive.names().to_vec();
    let mut compared = 0;
    for name in &names {
        let [source, filter, height, width] = name.split(' ').collect::<Vec<_>>()[..] else {
            continue;
        };
        let (source, expected) = (picture(&mut archive, source), picture(&mut archive, name));
        let size = [height, width].map(|side| side.parse().unwrap());
        let resized = match filter_of(filter) {
            Some(filter) => resize::resize(&source, size, filter).unwrap(),
            None => resize::center_crop(&source, size[0]).unwrap(),
        };
        assert_eq!(distance(&resized, &expected), 0, "{name}");
        compared += 1;
    }
    assert_eq!(compared, 33);
}

fn filter_of(name: &str) -> Option<Filter> {
    Some(match name {
        "box" => Filter::Box,
        "bilinear" => Filter::Bilinear,
        "bicubic" => Filter::Bicubic,
        _ => return None,
    })
}

#[test]
fn shapes_that_cannot_be_are_refused() {
    let picture = Picture::new([2, 3, 1], vec![7; 6]).unwrap();
    for size in [[0, 1], [1, 0], [usize::MAX, 1]] {
        assert!(resize::resize(&picture, size, Filter::Box).is_err());
    }
    assert!(resize::center_crop(&picture, 0).is_err());
    // A picture that is small enough already is only cut.
    let whole = resize::center_crop(&picture, 2).unwrap();
    assert_eq!((whole.shape(), whole.pixels()), ([2, 2, 1], &[7; 4][..]));
}
