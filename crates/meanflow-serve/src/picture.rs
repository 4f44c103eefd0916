//! A sample as a PNG file that says how it was made.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use meanflow_data::Picture;
use meanflow_data::decode::{self, Background, Channels, Reading, View};
use meanflow_data::memory_dataset::from_byte;
use std::path::Path;

use crate::api_error::ApiError;
use crate::catalogue::{ModelEntry, SampleKind};
use png::{BitDepth, ColorType, Encoder, EncodingError};

/// The key under which the settings stand in a text chunk of the file.
const KEY: &str = "meanflow";

/// The PNG file of a picture, in base64, with `settings` as JSON in a text chunk.
pub(crate) fn encode(
    picture: &Picture,
    settings: &serde_json::Value,
) -> Result<String, EncodingError> {
    let [height, width, channels] = picture.shape();
    let side = |side: usize| u32::try_from(side).unwrap_or(u32::MAX);
    let mut file = Vec::new();
    let mut encoder = Encoder::new(&mut file, side(width), side(height));
    encoder.set_color(match channels {
        1 => ColorType::Grayscale,
        _ => ColorType::Rgb,
    });
    encoder.set_depth(BitDepth::Eight);
    encoder.add_itxt_chunk(KEY.to_owned(), settings.to_string())?;
    let mut writer = encoder.write_header()?;
    writer.write_image_data(picture.pixels())?;
    writer.finish()?;
    Ok(BASE64_STANDARD.encode(file))
}

/// The values in model space, `[C, H, W]`, of a file in base64; transparent pixels are white.
pub(crate) fn values(model: &ModelEntry, file: &str) -> Result<Vec<f32>, ApiError> {
    let Some([channels, height, width]) = model
        .picture
        .filter(|_| model.samples == SampleKind::Pictures)
    else {
        return Err(ApiError::bad(
            "model",
            "one whose samples are pictures",
            &model.id,
        ));
    };
    let name = Path::new("picture");
    let decoded = BASE64_STANDARD.decode(file);
    let bytes = decoded.map_err(|error| ApiError::bad("picture", "a file in base64", error))?;
    let size = decode::dimensions(name, &bytes)
        .map_err(|error| ApiError::bad("picture", "PNG or JPEG", error))?;
    if size != [height, width] {
        let [got_height, got_width] = size;
        let expected = format!("{height} × {width} pixels");
        return Err(ApiError::bad(
            "picture",
            expected,
            format!("{got_height} × {got_width}"),
        ));
    }
    let reading = Reading {
        channels: if channels == 1 {
            Channels::Grey
        } else {
            Channels::Color
        },
        view: View {
            background: Some(Background::WHITE),
            ..View::default()
        },
    };
    let picture = decode::decode(name, &bytes, reading);
    let picture = picture.map_err(|error| ApiError::bad("picture", "PNG or JPEG", error))?;
    let (pixels, plane) = (picture.pixels(), height * width);
    let value = |place: usize| from_byte(pixels[place % plane * channels + place / plane]);
    Ok((0..plane * channels).map(value).collect())
}

/// Which pixels of a model's pictures are drawn anew, row by row.
pub(crate) fn mask(model: &ModelEntry, text: &str) -> Result<Vec<bool>, ApiError> {
    let [_, height, width] = model.picture.unwrap_or_default();
    let pixels: Option<Vec<bool>> = text
        .bytes()
        .map(|byte| match byte {
            b'0' => Some(false),
            b'1' => Some(true),
            _ => None,
        })
        .collect();
    let known = pixels.filter(|pixels| pixels.len() == height * width);
    let expected = || format!("a 0 or 1 for each of {height} × {width} pixels");
    known.ok_or_else(|| {
        ApiError::bad(
            "mask",
            expected(),
            format!("{} characters", text.chars().count()),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_picture_comes_back_with_its_settings() {
        let picture = Picture::new([2, 3, 1], vec![0, 50, 100, 150, 200, 255]).unwrap();
        let settings = json!({"seed": 7, "class": "käfer"});
        let file = BASE64_STANDARD
            .decode(encode(&picture, &settings).unwrap())
            .unwrap();
        let mut reader = png::Decoder::new(std::io::Cursor::new(file))
            .read_info()
            .unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        reader.next_frame(&mut pixels).unwrap();
        assert_eq!(pixels, picture.pixels());
        let text = &reader.info().utf8_text[0];
        assert_eq!(text.keyword, KEY);
        assert_eq!(text.get_text().unwrap(), settings.to_string());
    }
}
