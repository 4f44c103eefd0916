//! Pictures made by Pillow: decoded and resized to the same numbers. `fixtures/make.py` made the files.

mod common;

use std::collections::HashMap;
use std::fs;

use common::{fixtures, picture};
use meanflow_data::decode::{self, Background, Channels, Reading, View};
use meanflow_data::npy::NpyData;
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
    for name in names.iter().filter(|name| !name.starts_with("plane")) {
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

#[test]
fn numbers_are_resized_as_by_pillow() {
    let mut archive = Npz::open(&fixtures().join("resizes.npz"), 1 << 20).unwrap();
    let mut read = |name: &str| match archive.read(name).unwrap() {
        array if matches!(array.data, NpyData::F32(_)) => {
            let NpyData::F32(values) = array.data else {
                unreachable!()
            };
            (array.shape, values)
        }
        _ => panic!("{name}: not numbers"),
    };
    let (shape, plane) = read("plane");
    for filter in ["box", "bilinear", "bicubic"] {
        for size in [[10, 14], [50, 31]] {
            let (_, expected) = read(&format!("plane {filter} {} {}", size[0], size[1]));
            let kind = filter_of(filter).unwrap();
            let resized = resize::resize_f32(&plane, [shape[0], shape[1], 1], size, kind).unwrap();
            let three: Vec<f32> = plane
                .iter()
                .flat_map(|&x| [x, 255.0 - x, 2.0 * x])
                .collect();
            let three = resize::resize_f32(&three, [shape[0], shape[1], 3], size, kind).unwrap();
            for (place, (one, other)) in resized.iter().zip(&expected).enumerate() {
                // Values up to 255 in single precision, a unit in the last place being 1.5e-5; a few of them.
                assert!(
                    (one - other).abs() < 1e-4,
                    "{filter} {place}: {one} {other}"
                );
                let [a, b, c] = [0, 1, 2].map(|channel| three[3 * place + channel]);
                // Of numbers up to 255, a unit in the last place is 1.5e-5.
                assert!(a == *one && (a + b - 255.0).abs() < 1e-4);
                assert_eq!(c, 2.0 * a);
            }
        }
    }
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
    let resized = |values: &[f32], shape| resize::resize_f32(values, shape, [1, 1], Filter::Box);
    assert!(resized(&[0.0; 4], [2, 2, 1]).is_ok());
    assert!(resized(&[0.0; 5], [2, 2, 1]).is_err());
    assert!(resized(&[], [usize::MAX, 2, 1]).is_err());
    // A picture that is small enough already is only cut.
    let whole = resize::center_crop(&picture, 2).unwrap();
    assert_eq!((whole.shape(), whole.pixels()), ([2, 2, 1], &[7; 4][..]));
}
