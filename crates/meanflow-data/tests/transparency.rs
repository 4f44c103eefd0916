//! Transparent pixels: laid over a background as a viewer does, to the number, or refused and counted.

mod common;

use std::fs;
use std::io::Cursor;
use std::path::Path;

use common::{png_of, refusal};
use image::{DynamicImage, ImageBuffer, ImageFormat, LumaA, Rgba};
use meanflow_data::decode::{self, Background, Channels, Reading, View};
use meanflow_data::{DataError, ImageArchive};
use proptest::prelude::*;

fn encoded(picture: &DynamicImage) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    picture.write_to(&mut bytes, ImageFormat::Png).unwrap();
    bytes.into_inner()
}

fn decoded(
    bytes: &[u8],
    channels: Channels,
    background: Option<Background>,
) -> Result<Vec<u8>, DataError> {
    let view = View {
        background,
        apply_orientation: false,
    };
    let reading = Reading { channels, view };
    let picture = decode::decode(Path::new("p.png"), bytes, reading)?;
    Ok(picture.pixels().to_vec())
}

/// The nearest byte of a mixture, by another way than the code: in f64.
fn mixture(sample: f64, alpha: f64, behind: f64) -> u8 {
    (sample * alpha + behind * (1.0 - alpha)).round() as u8
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn eight_bits_are_mixed_to_the_nearest(pixel in any::<[u8; 4]>(), behind in any::<[u8; 3]>()) {
        let picture = ImageBuffer::from_pixel(2, 1, Rgba(pixel));
        let bytes = encoded(&DynamicImage::ImageRgba8(picture));
        let alpha = f64::from(pixel[3]) / 255.0;
        let expected: Vec<u8> = (0..3).map(|c| mixture(pixel[c].into(), alpha, behind[c].into())).collect();
        let got = decoded(&bytes, Channels::Color, Some(Background::Color(behind))).unwrap();
        // A half may fall to either side in f64.
        prop_assert!(got[..3].iter().zip(&expected).all(|(a, b)| a.abs_diff(*b) <= 1));
        let exact = |c: usize| {
            let sum = u32::from(pixel[c]) * u32::from(pixel[3]) + u32::from(behind[c]) * u32::from(255 - pixel[3]);
            (2 * sum + 255) / 510
        };
        prop_assert!((0..3).all(|c| u32::from(got[c]) == exact(c)));
        prop_assert_eq!(&decoded(&bytes, Channels::Color, Some(Background::KeepRgb)).unwrap()[..3], &pixel[..3]);
    }

    /// Sixteen bits are mixed in sixteen, and the upper eight are kept, as without transparency.
    #[test]
    fn sixteen_bits_are_mixed_before_they_are_cut(pixel in any::<[u16; 4]>(), behind in any::<u8>()) {
        let bytes = encoded(&DynamicImage::ImageRgba16(ImageBuffer::from_pixel(1, 1, Rgba(pixel))));
        let got = decoded(&bytes, Channels::Color, Some(Background::Color([behind; 3]))).unwrap();
        for channel in 0..3 {
            let sum = u64::from(pixel[channel]) * u64::from(pixel[3])
                + u64::from(behind) * 257 * u64::from(65_535 - pixel[3]);
            prop_assert_eq!(u64::from(got[channel]), (sum + 32_767) / 65_535 / 256);
        }
    }
}

#[test]
fn grey_with_alpha_stays_grey_over_grey_and_becomes_coloured_over_a_colour() {
    let picture = ImageBuffer::from_fn(3, 1, |x, _| LumaA([200, [0, 255, 51][x as usize]]));
    let bytes = encoded(&DynamicImage::ImageLumaA8(picture));
    let of = |channels, background| decoded(&bytes, channels, Some(background)).unwrap();
    // 200 · 0.2 = 40, and 255 · 0.8 = 204.
    assert_eq!(of(Channels::Grey, Background::WHITE), [255, 200, 244]);
    assert_eq!(of(Channels::Grey, Background::BLACK), [0, 200, 40]);
    let red = Background::Color([255, 0, 0]);
    assert_eq!(
        of(Channels::Color, red),
        [255, 0, 0, 200, 200, 200, 244, 40, 40]
    );
    assert_eq!(of(Channels::Grey, Background::KeepRgb), [200; 3]);
}

/// A palette whose first colour is transparent, and one colour of RGB that stands for transparency.
#[test]
fn palettes_and_single_colours_are_transparent_too() {
    let png =
        |kind, chunks: &[(&[u8; 4], &[u8])], rows: &[u8]| png_of([2, 1], [8, kind], chunks, rows);
    let colors = [10, 20, 30, 40, 50, 60];
    let palette = png(3, &[(b"PLTE", &colors), (b"tRNS", &[0])], &[0, 0, 1]);
    let key = [0, 10, 0, 20, 0, 30];
    let color = png(2, &[(b"tRNS", &key)], &[0, 10, 20, 30, 40, 50, 60]);
    for bytes in [palette, color] {
        let info = decode::info(Path::new("p.png"), &bytes).unwrap();
        assert!(info.has_alpha);
        let over = |background| decoded(&bytes, Channels::Color, background);
        assert_eq!(
            over(Some(Background::WHITE)).unwrap(),
            [255, 255, 255, 40, 50, 60]
        );
        assert_eq!(over(Some(Background::KeepRgb)).unwrap(), colors);
        assert!(matches!(over(None), Err(DataError::Transparent { .. })));
    }
}

#[test]
fn nothing_is_decided_in_silence() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, pixel: [u8; 4]| {
        let picture = DynamicImage::ImageRgba8(ImageBuffer::from_pixel(2, 2, Rgba(pixel)));
        fs::write(folder.path().join(name), encoded(&picture)).unwrap();
    };
    write("a.png", [1, 2, 3, 255]);
    let plain = DynamicImage::new_rgb8(2, 2);
    fs::write(folder.path().join("b.png"), encoded(&plain)).unwrap();
    let open = || ImageArchive::open_folder(folder.path()).unwrap();
    // An alpha channel that is opaque everywhere hides nothing.
    assert_eq!(
        open().decode(0, Channels::Color).unwrap().pixels()[..3],
        [1, 2, 3]
    );
    write("c.png", [1, 2, 3, 0]);
    refusal(open().decode(2, Channels::Color), "c.png");
    let error = refusal(open().refuse_transparent(), "a.png").to_string();
    assert!(
        error.contains("2 of 3 pictures") && error.contains("data.background"),
        "{error}"
    );
    let view = View {
        background: Some(Background::WHITE),
        apply_orientation: false,
    };
    let viewed = open().viewed(view);
    viewed.refuse_transparent().unwrap();
    assert_eq!(
        viewed.decode(2, Channels::Color).unwrap().pixels(),
        [255; 12]
    );
}

#[test]
fn backgrounds_are_read_by_their_names_and_written_back() {
    for name in ["white", "black", "keep-rgb", "#12abef"] {
        assert_eq!(name.parse::<Background>().unwrap().to_string(), name);
    }
    assert_eq!("#ffffff".parse(), Ok(Background::WHITE));
    for name in ["", "red", "#fff", "#12abeg", "12abef", "#+12345"] {
        let error = name.parse::<Background>().unwrap_err();
        assert!(error.contains("keep-rgb"), "{error}");
    }
}
