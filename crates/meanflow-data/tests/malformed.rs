//! Damaged files are refused with their name: no panic, no allocation that the file merely asks for.

use std::fs;
use std::path::Path;

use meanflow_data::npy::{self, NpyArray, NpyData, NpySlice, NpyView};
use meanflow_data::{DataError, Dataset, idx, npz};
use proptest::prelude::*;

const MAX_BYTES: u64 = 1 << 20;

/// Three pictures of 2×4 pixels with labels 0, 1, 2: the sides differ so that swapping them shows.
fn idx_pair() -> (Vec<u8>, Vec<u8>) {
    let mut images = vec![0, 0, 8, 3, 0, 0, 0, 3, 0, 0, 0, 2, 0, 0, 0, 4];
    images.extend(0..24);
    (images, vec![0, 0, 8, 1, 0, 0, 0, 3, 0, 1, 2])
}

fn parse(images: &[u8], labels: &[u8]) -> Result<Dataset, DataError> {
    idx::parse((Path::new("I"), images), (Path::new("L"), labels))
}

/// The error, which must name the file `name`.
fn refusal<T: std::fmt::Debug>(result: Result<T, DataError>, name: &str) -> DataError {
    let error = result.expect_err("damaged data must be refused");
    assert!(error.to_string().starts_with(name), "{error}");
    error
}

#[test]
fn a_good_pair_is_read() {
    let (images, labels) = idx_pair();
    let data = parse(&images, &labels).unwrap();
    assert_eq!(
        (data.len(), data.shape(), data.classes()),
        (3, &[1, 2, 4][..], 3)
    );
    let pictures = data.pictures(&[2, 0]).unwrap();
    assert_eq!(pictures.pixels(), (16..24).chain(0..8).collect::<Vec<u8>>());
    assert_eq!(data.batch(&[2, 0]).labels, [2, 0]);
}

#[test]
fn every_prefix_of_an_idx_file_is_refused() {
    let (images, labels) = idx_pair();
    for length in 0..images.len() {
        let error = refusal(parse(&images[..length], &labels), "I");
        let DataError::Length { expected, got, .. } = error else {
            panic!("{error}")
        };
        let whole = if length < 16 {
            (16, length)
        } else {
            (24, length - 16)
        };
        assert_eq!((expected, got as usize), whole);
    }
    for length in 0..labels.len() {
        let error = refusal(parse(&images, &labels[..length]), "L");
        assert!(matches!(error, DataError::Length { .. }), "{error}");
    }
}

#[test]
fn extra_bytes_are_refused() {
    let (mut images, mut labels) = idx_pair();
    images.push(0);
    refusal(parse(&images, &labels), "I");
    images.pop();
    labels.push(0);
    refusal(parse(&images, &labels), "L");
}

#[test]
fn every_bit_of_an_idx_header_matters() {
    let (images, labels) = idx_pair();
    for bit in 0..16 * 8 {
        let mut images = images.clone();
        images[bit / 8] ^= 1 << (bit % 8);
        assert!(
            parse(&images, &labels).is_err(),
            "bit {bit} of the image file"
        );
    }
    for bit in 0..8 * 8 {
        let mut labels = labels.clone();
        labels[bit / 8] ^= 1 << (bit % 8);
        refusal(parse(&images, &labels), "L");
    }
}

#[test]
fn counts_that_differ_are_refused_with_both_numbers() {
    let (images, mut labels) = idx_pair();
    labels[7] = 2;
    labels.pop();
    let message = refusal(parse(&images, &labels), "L").to_string();
    assert_eq!(message, "L: count at byte 4: expected 3, got 2");
}

#[test]
fn huge_sizes_cost_nothing() {
    let (images, labels) = idx_pair();
    for field in [4..8, 8..12, 12..16, 4..16] {
        for byte in [0xff, 0x00, 0x3f] {
            let mut images = images.clone();
            images[field.clone()].fill(byte);
            // 2³² pictures of 2³² pixels: an allocation of that size would abort the test.
            refusal(parse(&images, &labels), "I");
        }
    }
}

#[test]
fn a_missing_or_endless_file_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let error = refusal(
        idx::read_directory(folder.path()),
        folder.path().to_str().unwrap(),
    );
    assert!(error.to_string().contains("images-idx3-ubyte"), "{error}");
    let long = folder.path().join("images-idx3-ubyte");
    fs::File::create(&long)
        .unwrap()
        .set_len(idx::MAX_BYTES + 1)
        .unwrap();
    let error = refusal(idx::read_directory(folder.path()), long.to_str().unwrap());
    assert!(matches!(error, DataError::Limit { .. }), "{error}");
}

/// Bytes of a `.npy` file with this dictionary.
fn npy_bytes(version: u8, dictionary: &str, elements: &[u8]) -> Vec<u8> {
    let mut bytes = b"\x93NUMPY".to_vec();
    bytes.extend([version, 0]);
    let size = dictionary.len() as u32;
    bytes.extend(&size.to_le_bytes()[..if version == 1 { 2 } else { 4 }]);
    bytes.extend(dictionary.as_bytes());
    bytes.extend(elements);
    bytes
}

fn read_npy(bytes: &[u8]) -> Result<NpyArray, DataError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.npy");
    fs::write(&path, bytes).unwrap();
    let result = npy::read(&path, MAX_BYTES);
    if let Err(error) = &result {
        assert!(
            error.to_string().starts_with(path.to_str().unwrap()),
            "{error}"
        );
    }
    result
}

const GOOD: &str = "{'descr': '|u1', 'fortran_order': False, 'shape': (2, 3), }";

#[test]
fn every_spelling_of_a_good_header_is_read() {
    let spellings = [
        GOOD,
        "{'descr':'|u1','fortran_order':False,'shape':(2,3)}",
        "{ 'shape' : (2, 3,), 'descr' : '|u1' , 'fortran_order' : False }   \n",
    ];
    for version in 1..=3 {
        for text in spellings {
            let array = read_npy(&npy_bytes(version, text, &[0, 1, 2, 3, 4, 5])).unwrap();
            let data = NpyData::U8(vec![0, 1, 2, 3, 4, 5]);
            assert_eq!(
                array,
                NpyArray {
                    shape: vec![2, 3],
                    data
                }
            );
        }
    }
}

#[test]
fn other_arrays_are_refused() {
    let refused = [
        ("", ""),
        ("|u1", "|O"),
        ("|u1", ">f4"),
        ("|u1", ">f2"),
        ("'|u1'", "[('x', '|u1')]"),
        ("False", "True"),
        ("False", "Falsehood"),
        ("(2, 3)", "(6)"),
        ("(2, 3)", "6"),
        ("(2, 3)", "(2, -3)"),
        ("(2, 3)", "(2, , 3)"),
        ("(2, 3)", "(2, 3"),
        ("(2, 3)", "(2, 99999999999999999999)"),
        (
            "(2, 3)",
            "(18446744073709551615, 18446744073709551615, 18446744073709551615)",
        ),
        ("(2, 3)", "(4294967296, 4294967296)"),
        ("(2, 3)", "(0, 18446744073709551615)"),
        (
            "(2, 3)",
            "(1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,2,3)",
        ),
        ("'shape'", "'size'"),
        (", 'shape': (2, 3)", ""),
        ("}", "'shape': (2, 3)}"),
        ("}", "} + __import__('os')"),
    ];
    for (good, bad) in refused {
        let text = if good.is_empty() {
            String::new()
        } else {
            GOOD.replace(good, bad)
        };
        assert!(read_npy(&npy_bytes(1, &text, &[0; 6])).is_err(), "{text}");
    }
    assert!(read_npy(&npy_bytes(4, GOOD, &[0; 6])).is_err());
}

#[test]
fn a_header_of_four_gigabytes_is_not_read() {
    let mut bytes = npy_bytes(2, GOOD, &[0; 6]);
    bytes[8..12].fill(0xff);
    assert!(matches!(read_npy(&bytes), Err(DataError::Limit { .. })));
}

#[test]
fn every_prefix_of_an_npy_file_is_refused() {
    let bytes = npy_bytes(1, GOOD, &[0; 6]);
    for length in 0..bytes.len() {
        assert!(read_npy(&bytes[..length]).is_err(), "{length} bytes");
    }
    assert!(read_npy(&[&bytes[..], &[0]].concat()).is_err());
}

/// A good archive with two arrays.
fn npz_bytes(compression: npz::Compression) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("good.npz");
    let bytes: Vec<u8> = (0..200).collect();
    let pixels = NpyView {
        shape: &[2, 100],
        data: NpySlice::U8(&bytes),
    };
    let labels = NpyView {
        shape: &[2],
        data: NpySlice::I64(&[5, -6]),
    };
    npz::write(&path, &[("arr_0", pixels), ("arr_1", labels)], compression).unwrap();
    fs::read(&path).unwrap()
}

/// Reads both arrays of an archive with these bytes.
fn read_npz(bytes: &[u8]) -> Result<[NpyArray; 2], DataError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.npz");
    fs::write(&path, bytes).unwrap();
    let mut archive = npz::Npz::open(&path, MAX_BYTES)?;
    Ok([archive.read("arr_0")?, archive.read("arr_1")?])
}

#[test]
fn every_prefix_of_an_archive_is_refused() {
    for compression in [npz::Compression::Deflate, npz::Compression::Store] {
        let bytes = npz_bytes(compression);
        read_npz(&bytes).unwrap();
        for length in 0..bytes.len() {
            assert!(read_npz(&bytes[..length]).is_err(), "{length} bytes");
        }
    }
}

#[test]
fn an_array_above_the_limit_is_refused_before_it_is_unpacked() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bomb.npz");
    let zeros = vec![0; MAX_BYTES as usize + 1];
    let array = NpyView {
        shape: &[zeros.len()],
        data: NpySlice::U8(&zeros),
    };
    npz::write(&path, &[("bomb", array)], npz::Compression::Deflate).unwrap();
    assert!(fs::metadata(&path).unwrap().len() < MAX_BYTES / 100);
    let error = npz::Npz::open(&path, MAX_BYTES)
        .unwrap()
        .read("bomb")
        .unwrap_err();
    assert!(matches!(error, DataError::Limit { .. }), "{error}");
    let error = npz::Npz::open(&path, 2 * MAX_BYTES)
        .unwrap()
        .read("other")
        .unwrap_err();
    assert!(error.to_string().contains("other.npy"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// A flipped bit is found, or it is one that changes no element (a date, a compressor's version).
    #[test]
    fn a_flipped_bit_never_changes_an_element(bit in 0_usize..8 * 600, store: bool) {
        let compression =
            if store { npz::Compression::Store } else { npz::Compression::Deflate };
        let good = npz_bytes(compression);
        let mut bytes = good.clone();
        let bit = bit % (8 * bytes.len());
        bytes[bit / 8] ^= 1 << (bit % 8);
        if let Ok(arrays) = read_npz(&bytes) {
            prop_assert_eq!(arrays, read_npz(&good).unwrap());
        }
    }

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(parse(&bytes, &bytes).is_err());
        prop_assert!(read_npy(&bytes).is_err());
        prop_assert!(read_npz(&bytes).is_err());
        let _ = read_npy(&npy_bytes(1, &String::from_utf8_lossy(&bytes), &[0; 6]));
    }
}
