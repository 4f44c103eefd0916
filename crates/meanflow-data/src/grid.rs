//! Many pictures on one: a contact sheet, or two pictures side by side.

use crate::DataError;
use crate::picture::{Picture, Pictures};

/// How a contact sheet is laid out.
#[derive(Clone, Copy, Debug)]
pub struct GridStyle {
    /// Pictures in a row; fewer when there are fewer.
    pub columns: usize,
    /// Side of the square that every pixel becomes, so that small pictures can be seen.
    pub scale: usize,
    /// Width of the line between neighbours and around the whole, in pixels of the sheet.
    pub gap: usize,
    /// Brightness of that line.
    pub background: u8,
}

impl GridStyle {
    /// A style that shows pictures of `height` rows legibly: about 32 rows at least for each, lines of one pixel.
    pub fn legible(columns: usize, height: usize) -> Self {
        Self {
            columns,
            scale: 32_usize.div_ceil(height.max(1)),
            gap: 1,
            background: 128,
        }
    }
}

/// Lays pictures out row by row; the places left over in the last row keep the colour of the lines.
///
/// # Errors
/// [`DataError::Shape`] when there is no picture, or `columns` or `scale` is 0.
pub fn sheet(pictures: &Pictures, style: &GridStyle) -> Result<Picture, DataError> {
    let &GridStyle {
        columns,
        scale,
        gap,
        background,
    } = style;
    if columns == 0 || scale == 0 || pictures.is_empty() {
        let got = format!(
            "{} pictures, {columns} columns, scale {scale}",
            pictures.len()
        );
        return Err(DataError::shape(
            "contact sheet",
            "one or more of each",
            got,
        ));
    }
    let [count, height, width, channels] = pictures.shape();
    let columns = columns.min(count);
    let (step_y, step_x) = (height * scale + gap, width * scale + gap);
    let mut canvas = Canvas::new(
        [
            count.div_ceil(columns) * step_y + gap,
            columns * step_x + gap,
            channels,
        ],
        background,
    );
    for (place, picture) in pictures.iter().enumerate() {
        canvas.paste(
            &picture,
            gap + place / columns * step_y,
            gap + place % columns * step_x,
            scale,
        );
    }
    canvas.finish()
}

/// Puts pictures of the same height and channels beside each other, `gap` columns of `background` between them.
///
/// # Errors
/// [`DataError::Shape`] when there is no picture or when they differ in height or channels.
pub fn beside(pictures: &[Picture], gap: usize, background: u8) -> Result<Picture, DataError> {
    let Some([height, _, channels]) = pictures.first().map(Picture::shape) else {
        return Err(DataError::shape("pictures side by side", "one or more", 0));
    };
    let mut width = gap * (pictures.len() - 1);
    for picture in pictures {
        let [other_height, other_width, other_channels] = picture.shape();
        if (other_height, other_channels) != (height, channels) {
            let expected = format!("height {height} and {channels} channels");
            let got = format!("height {other_height} and {other_channels} channels");
            return Err(DataError::shape("pictures side by side", expected, got));
        }
        width += other_width;
    }
    let mut canvas = Canvas::new([height, width, channels], background);
    let mut left = 0;
    for picture in pictures {
        canvas.paste(picture, 0, left, 1);
        left += picture.shape()[1] + gap;
    }
    canvas.finish()
}

/// Puts pictures of the same width and channels below each other, `gap` rows of `background` between them.
///
/// # Errors
/// [`DataError::Shape`] when there is no picture or when they differ in width or channels.
pub fn below(pictures: &[Picture], gap: usize, background: u8) -> Result<Picture, DataError> {
    let Some([_, width, channels]) = pictures.first().map(Picture::shape) else {
        return Err(DataError::shape(
            "pictures below each other",
            "one or more",
            0,
        ));
    };
    let mut height = gap * (pictures.len() - 1);
    for picture in pictures {
        let [other_height, other_width, other_channels] = picture.shape();
        if (other_width, other_channels) != (width, channels) {
            let expected = format!("width {width} and {channels} channels");
            let got = format!("width {other_width} and {other_channels} channels");
            return Err(DataError::shape("pictures below each other", expected, got));
        }
        height += other_height;
    }
    let mut canvas = Canvas::new([height, width, channels], background);
    let mut top = 0;
    for picture in pictures {
        canvas.paste(picture, top, 0, 1);
        top += picture.shape()[0] + gap;
    }
    canvas.finish()
}

/// A picture being put together.
struct Canvas {
    shape: [usize; 3],
    pixels: Vec<u8>,
}

impl Canvas {
    fn new(shape: [usize; 3], background: u8) -> Self {
        Self {
            shape,
            pixels: vec![background; shape.iter().product()],
        }
    }

    /// Copies a picture so that its corner lies at row `top`, column `left`, every pixel as a square of side `scale`.
    fn paste(&mut self, picture: &Picture, top: usize, left: usize, scale: usize) {
        let [height, width, channels] = picture.shape();
        for y in 0..height * scale {
            let source = &picture.pixels()[y / scale * width * channels..][..width * channels];
            let start = ((top + y) * self.shape[1] + left) * channels;
            let target = &mut self.pixels[start..][..width * scale * channels];
            let squares = target.chunks_exact_mut(scale * channels);
            for (square, pixel) in squares.zip(source.chunks_exact(channels)) {
                square
                    .chunks_exact_mut(channels)
                    .for_each(|place| place.copy_from_slice(pixel));
            }
        }
    }

    fn finish(self) -> Result<Picture, DataError> {
        Picture::new(self.shape, self.pixels)
    }
}
