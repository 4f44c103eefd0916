//! What is written can be read again, is laid out as promised, and appears whole or not at all.

use std::fs;
use std::path::Path;

use half::f16;
use meanflow_data::grid::{self, GridStyle};
use meanflow_data::npy::{self, NpyData, NpySlice, NpyView};
use meanflow_data::npz::{self, Compression, Npz};
use meanflow_data::{DataError, Dataset, MemoryDataset, Picture, Pictures, digits, write_bytes};
use proptest::prelude::*;

/// The names in a folder, sorted.
fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// `count` pictures whose value at (picture, channel, row, column) tells all four apart.
fn pictures(count: usize, shape: [usize; 3]) -> Pictures {
    let size = shape.iter().product::<usize>();
    let bytes: Vec<u8> = (0..count * size)
        .map(|index| (index * 7 % 251) as u8)
        .collect();
    let data = MemoryDataset::from_pictures(bytes, shape, Vec::new(), 0).unwrap();
    data.pictures(&(0..count).collect::<Vec<_>>()).unwrap()
}

#[test]
fn the_embedded_digits_are_the_ones_described() {
    let data = digits::load().unwrap();
    assert_eq!(
        (data.len(), data.shape(), data.classes()),
        (1797, &[1, 8, 8][..], 10)
    );
    let mut counts = [0; 10];
    data.labels()
        .iter()
        .for_each(|&label| counts[label as usize] += 1);
    assert_eq!(counts, [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]);
    let values = data.examples(&(0..data.len()).collect::<Vec<_>>()).values;
    let ends = values.iter().fold((0.0_f32, 0.0_f32), |(low, high), &x| {
        (low.min(x), high.max(x))
    });
    assert_eq!(ends, (-1.0, 1.0));
}

#[test]
fn data_that_does_not_fit_is_refused() {
    let bad = [
        MemoryDataset::from_pictures(vec![0; 7], [1, 2, 2], vec![], 0),
        MemoryDataset::from_pictures(vec![], [1, 2, 2], vec![], 0),
        MemoryDataset::from_pictures(vec![0; 4], [0, 2, 2], vec![], 0),
        MemoryDataset::from_pictures(vec![0; 4], [usize::MAX, 2, 2], vec![], 0),
        MemoryDataset::from_pictures(vec![0; 8], [1, 2, 2], vec![0], 1),
        MemoryDataset::from_pictures(vec![0; 8], [1, 2, 2], vec![0, 1], 1),
        MemoryDataset::from_pictures(vec![0; 8], [1, 2, 2], vec![0, -1], 1),
        MemoryDataset::from_pictures(vec![0; 4], [1, 2, 2], vec![0], 0),
        MemoryDataset::from_values(vec![0.0, f32::NAN], vec![2], vec![], 0),
    ];
    assert!(
        bad.iter()
            .all(|result| matches!(result, Err(DataError::Shape { .. })))
    );
}

#[test]
fn pictures_leave_model_space_channels_last() {
    // [C, H, W] = [3, 1, 2]: two red values, two green, two blue.
    let values = [-1.0, 1.0, 0.0, 0.5, 1.0, -1.0];
    let picture = Pictures::from_model(&values, [3, 1, 2]).unwrap();
    assert_eq!(picture.shape(), [1, 1, 2, 3]);
    assert_eq!(picture.pixels(), [0, 128, 255, 255, 191, 0]);
    assert!(Pictures::from_model(&values, [2, 1, 3]).is_err());
    assert!(Pictures::from_model(&values, [1, 2, 2]).is_err());
}

#[test]
fn a_png_holds_the_pixels() {
    let folder = tempfile::tempdir().unwrap();
    for channels in [1, 3] {
        let path = folder.path().join("a.png");
        let picture = pictures(1, [channels, 5, 3]).iter().next().unwrap();
        picture.write_png(&path).unwrap();
        let read = image::open(&path).unwrap();
        let pixels = if channels == 1 {
            assert_eq!(read.color(), image::ColorType::L8);
            read.into_luma8().into_raw()
        } else {
            read.into_rgb8().into_raw()
        };
        assert_eq!(pixels, picture.pixels());
    }
    assert_eq!(names(folder.path()), ["a.png"]);
}

#[test]
fn numbered_pictures_go_to_folders_of_a_thousand() {
    let folder = tempfile::tempdir().unwrap();
    let batch = pictures(3, [1, 2, 2]);
    batch.write_folders(folder.path(), &[999, 1000, 7]).unwrap();
    assert_eq!(names(folder.path()), ["000000", "001000"]);
    assert_eq!(
        names(&folder.path().join("000000")),
        ["000007.png", "000999.png"]
    );
    let last = image::open(folder.path().join("000000/000007.png"))
        .unwrap()
        .into_luma8();
    assert_eq!(last.into_raw(), batch.pixels()[8..]);
    assert!(batch.write_folders(folder.path(), &[1, 2]).is_err());
}

proptest! {
    /// Every pixel of a sheet is a pixel of the picture it lies in, or a line.
    #[test]
    fn sheets_are_laid_out_by_rows(
        count in 1_usize..14, columns in 1_usize..6, scale in 1_usize..4, gap in 0_usize..3,
        height in 1_usize..4, width in 1_usize..4, color: bool,
    ) {
        let channels = if color { 3 } else { 1 };
        let batch = pictures(count, [channels, height, width]);
        let background = 252;
        let sheet = grid::sheet(&batch, &GridStyle { columns, scale, gap, background }).unwrap();
        let (rows, columns) = (count.div_ceil(columns), columns.min(count));
        let (step_y, step_x) = (height * scale + gap, width * scale + gap);
        let shape = [rows * step_y + gap, columns * step_x + gap, channels];
        prop_assert_eq!(sheet.shape(), shape);
        for (index, &pixel) in sheet.pixels().iter().enumerate() {
            let (y, x, channel) =
                (index / channels / shape[1], index / channels % shape[1], index % channels);
            let inside = |place: usize, step: usize| {
                place.checked_sub(gap).filter(|place| place % step < step - gap)
            };
            let expected = inside(y, step_y).zip(inside(x, step_x)).and_then(|(y, x)| {
                let picture = y / step_y * columns + x / step_x;
                let (row, column) = (y % step_y / scale, x % step_x / scale);
                let place = ((picture * height + row) * width + column) * channels + channel;
                batch.pixels().get(place).copied()
            });
            prop_assert_eq!(pixel, expected.unwrap_or(background));
        }
    }

    #[test]
    fn archives_come_back_bit_for_bit(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        words in prop::collection::vec(any::<i64>(), 1..50),
        bits in prop::collection::vec(any::<u64>(), 2..50),
        deflate: bool,
    ) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.npz");
        let (singles, doubles): (Vec<_>, Vec<_>) = bits
            .iter().map(|&bits| (f32::from_bits(bits as u32), f64::from_bits(bits))).unzip();
        let halves: Vec<_> = bits.iter().map(|&bits| f16::from_bits(bits as u16)).collect();
        let arrays = [
            ("bytes", NpyView { shape: &[1, bytes.len(), 1], data: NpySlice::U8(&bytes) }),
            ("words", NpyView { shape: &[words.len()], data: NpySlice::I64(&words) }),
            ("singles", NpyView { shape: &[singles.len(), 1], data: NpySlice::F32(&singles) }),
            ("halves", NpyView { shape: &[halves.len()], data: NpySlice::F16(&halves) }),
            ("scalar", NpyView { shape: &[], data: NpySlice::F64(&doubles[..1]) }),
        ];
        let compression = if deflate { Compression::Deflate } else { Compression::Store };
        npz::write(&path, &arrays, compression).unwrap();
        let mut archive = Npz::open(&path, 1 << 20).unwrap();
        prop_assert_eq!(archive.names(), ["bytes", "words", "singles", "halves", "scalar"]);
        let read = arrays.map(|(name, _)| archive.read(name).unwrap());
        for (array, (_, written)) in read.iter().zip(&arrays) {
            prop_assert_eq!(array.shape.as_slice(), written.shape);
        }
        let [NpyData::U8(b), NpyData::I64(w), NpyData::F32(s), NpyData::F16(h), NpyData::F64(d)] =
            read.map(|array| array.data) else { panic!("element types changed") };
        prop_assert_eq!((b, w), (bytes, words));
        // NaN included, hence the bits.
        prop_assert!(s.iter().map(|x| x.to_bits()).eq(singles.iter().map(|x| x.to_bits())));
        prop_assert!(h.iter().map(|x| x.to_bits()).eq(halves.iter().map(|x| x.to_bits())));
        prop_assert_eq!(d[0].to_bits(), doubles[0].to_bits());
    }
}

#[test]
fn the_same_arrays_give_the_same_bytes_and_names_are_unique() {
    let folder = tempfile::tempdir().unwrap();
    let array = NpyView {
        shape: &[3],
        data: NpySlice::U8(&[1, 2, 3]),
    };
    let write = |name: &str, arrays: &[(&str, NpyView<'_>)]| {
        let path = folder.path().join(name);
        npz::write(&path, arrays, Compression::Deflate).map(|()| fs::read(path).unwrap())
    };
    assert_eq!(
        write("a.npz", &[("x", array)]).unwrap(),
        write("b.npz", &[("x", array)]).unwrap()
    );
    assert!(matches!(
        write("c.npz", &[("x", array), ("x", array)]),
        Err(DataError::Archive { .. })
    ));
    assert_eq!(names(folder.path()), ["a.npz", "b.npz"]);
}

#[test]
fn samples_are_written_as_evaluators_expect_them() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("samples.npz");
    let batch = pictures(4, [3, 2, 5]);
    npz::write_samples(&path, &batch, &[3, 1, 4, 1]).unwrap();
    let mut archive = Npz::open(&path, 1 << 20).unwrap();
    let samples = archive.read("arr_0").unwrap();
    assert_eq!(
        (samples.shape.as_slice(), samples.data),
        (&[4, 2, 5, 3][..], NpyData::U8(batch.pixels().to_vec()))
    );
    assert_eq!(
        archive.read("arr_1").unwrap().data,
        NpyData::I64(vec![3, 1, 4, 1])
    );
    assert!(npz::write_samples(&path, &batch, &[1]).is_err());
    npz::write_samples(&path, &batch, &[]).unwrap();
    assert_eq!(Npz::open(&path, 1 << 20).unwrap().names(), ["arr_0"]);
}

#[test]
fn a_shape_that_does_not_fit_its_elements_is_not_written() {
    let folder = tempfile::tempdir().unwrap();
    let array = NpyView {
        shape: &[2, 2],
        data: NpySlice::F32(&[0.0; 3]),
    };
    assert!(npy::write(&folder.path().join("a.npy"), array).is_err());
    assert!(names(folder.path()).is_empty());
}

#[test]
fn pictures_beside_and_below_each_other_must_be_of_one_height_or_width() {
    let picture =
        |height, width| Picture::new([height, width, 1], vec![9; height * width]).unwrap();
    let both = grid::beside(&[picture(2, 1), picture(2, 2)], 1, 0).unwrap();
    assert_eq!(both.shape(), [2, 4, 1]);
    assert_eq!(both.pixels(), [9, 0, 9, 9, 9, 0, 9, 9]);
    let both = grid::below(&[picture(1, 2), picture(2, 2)], 1, 0).unwrap();
    assert_eq!(both.shape(), [4, 2, 1]);
    assert_eq!(both.pixels(), [9, 9, 0, 0, 9, 9, 9, 9]);
    assert!(grid::beside(&[picture(2, 1), picture(3, 1)], 1, 0).is_err());
    assert!(grid::below(&[picture(2, 1), picture(2, 2)], 1, 0).is_err());
    assert!(grid::beside(&[], 1, 0).is_err() && grid::below(&[], 1, 0).is_err());
}

#[test]
fn a_folder_in_the_way_or_missing_is_an_error_with_its_name() {
    let folder = tempfile::tempdir().unwrap();
    for path in [folder.path().join("none/file"), folder.path().join("..")] {
        let error = write_bytes(&path, b"x").unwrap_err().to_string();
        assert!(error.starts_with(path.to_str().unwrap()), "{error}");
    }
    fs::create_dir(folder.path().join("taken")).unwrap();
    assert!(write_bytes(&folder.path().join("taken"), b"x").is_err());
    assert_eq!(names(folder.path()), ["taken"]);
}
