//! Reference statistics as NumPy writes them.
//!
//! `fixtures/*.npz` are from NumPy 2.4.6: mean and covariance of `default_rng(0).normal(size=(20, 3))`, in f32 in `jax.npz`.

mod common;

use std::path::{Path, PathBuf};

use common::normal;
use meanflow_data::npy::{NpySlice, NpyView};
use meanflow_data::npz::{self, Compression};
use meanflow_eval::{EvalError, Reference, Spelling, Statistics, frechet_distance, reference};

fn fixture(name: &str) -> PathBuf {
    tch::set_num_threads(1);
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(name)
}

#[test]
fn every_spelling_is_read_and_named() {
    let adm = Reference::read(&fixture("adm.npz")).unwrap();
    assert_eq!(adm.spelling, Spelling::Adm);
    assert_eq!(adm.spatial.unwrap().dims(), 2);
    for (name, expected) in [("edm.npz", Spelling::Edm), ("jax.npz", Spelling::Jax)] {
        let other = Reference::read(&fixture(name)).unwrap();
        assert_eq!(other.spelling, expected);
        assert!(other.spatial.is_none());
        // One file is in f32: the distance of statistics that differ by 1e-7 is of its square.
        assert!(frechet_distance(&adm.pooled, &other.pooled).unwrap() < 1e-12);
    }
    // As NumPy prints them.
    assert_eq!(adm.pooled.mean().double_value(&[0]), MEAN);
    assert_eq!(adm.pooled.covariance().double_value(&[0, 1]), COVARIANCE);
}

const MEAN: f64 = 0.018776481964903873;
const COVARIANCE: f64 = 0.16035816760761637;

#[test]
fn what_is_written_is_read_bit_for_bit() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("statistics.npz");
    let pooled = Statistics::of(&normal(30, 5, 1)).unwrap();
    let spatial = Statistics::of(&normal(30, 4, 2)).unwrap();
    for (spatial, spelling) in [(Some(&spatial), Spelling::Adm), (None, Spelling::Edm)] {
        reference::write(&path, &pooled, spatial).unwrap();
        let read = Reference::read(&path).unwrap();
        assert_eq!(read.spelling, spelling);
        assert_eq!(read.pooled.covariance(), pooled.covariance());
        assert_eq!(
            read.spatial.map(|s| s.mean().copy()),
            spatial.map(|s| s.mean().copy())
        );
    }
}

#[test]
fn pickles_and_other_files_are_refused() {
    let error = Reference::read(&fixture("pickled.npz")).unwrap_err();
    assert!(matches!(error, EvalError::Data(_)), "{error}");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.npz");
    let (numbers, bytes) = ([1.0, 0.0, 0.0, 1.0], [0_u8; 4]);
    let [vector, matrix, wide] = [&[2][..], &[2, 2], &[4, 1]].map(|shape| NpyView {
        shape,
        data: NpySlice::F64(&numbers[..shape.iter().product()]),
    });
    let pictures = NpyView {
        shape: &[2, 2],
        data: NpySlice::U8(&bytes),
    };
    for (arrays, expected) in [
        (&[("mu", vector)][..], "expected the arrays"),
        (
            &[("mu", vector), ("sigma", wide)],
            "expected shape [2, 2], got [4, 1]",
        ),
        (&[("mu", vector), ("sigma", pictures)], "f32 or f64"),
        (
            &[
                ("mu", vector),
                ("sigma", matrix),
                ("ref_mu", vector),
                ("ref_sigma", matrix),
            ],
            "expected either",
        ),
    ] {
        npz::write(&path, arrays, Compression::Store).unwrap();
        let error = Reference::read(&path).unwrap_err().to_string();
        assert!(
            error.contains(expected) && error.contains("x.npz"),
            "{error}"
        );
    }
}
