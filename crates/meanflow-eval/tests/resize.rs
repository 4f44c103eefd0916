//! The three ways of resizing against the code that each is named after, in `fixtures/resize.safetensors`.

mod formula;

use std::path::Path;

use formula::pictures;
use meanflow_eval::{EvalError, Resize};
use meanflow_torch::{Kind, weights};

#[test]
fn they_are_pillow_tensorflow_1_and_pytorch() {
    tch::set_num_threads(1);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/resize.safetensors");
    let fixtures = weights::read(&path).unwrap();
    assert_eq!(fixtures.len(), 18);
    for (name, expected) in &fixtures {
        let (case, mode) = name.split_once('/').unwrap();
        let (from, side) = case.split_once("to").unwrap();
        let (height, width) = from.split_once('x').unwrap();
        let [height, width, side] = [height, width, side].map(|side| side.parse::<i64>().unwrap());
        let mode = Resize::ALL
            .into_iter()
            .find(|way| way.name() == mode)
            .unwrap();
        let found = mode
            .apply(&pictures(case, &[1, 2, height, width]), side)
            .unwrap();
        // Of large results every thirteenth row and column is stored.
        let step = if side > 100 { 13 } else { 1 };
        let found = found.slice(2, 0, side, step).slice(3, 0, side, step);
        let error = (found - expected).abs().max().double_value(&[]);
        // On the scale 0..=255, where a float has 1.5e-5; the originals add up to three hundred of them. Measured: 5e-5.
        assert!(error < 1e-4, "{name}: {error}");
    }
}

#[test]
fn the_same_size_is_the_same_picture() {
    let x = pictures("same", &[2, 3, 12, 12]);
    for way in Resize::ALL {
        assert_eq!(way.apply(&x, 12).unwrap(), x.to_kind(Kind::Float), "{way}");
    }
}

#[test]
fn what_are_no_pictures_of_bytes_is_refused() {
    let x = pictures("same", &[2, 3, 12, 12]);
    for wrong in [x.to_kind(Kind::Float), x.get(0), x.narrow(3, 0, 0)] {
        let refused = Resize::Clean.apply(&wrong, 12);
        assert!(matches!(refused, Err(EvalError::Shape { .. })));
    }
}
