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
        return DataError::misfit("contact sheet", "one or more of each", got);
    }
    let [count, height, width, channels] = pictures.shape();
    let columns = columns.min(count);
    let (step_y, step_x) = (height * scale + gap, width * scale + gap);
    let rows = count.div_ceil(columns);
    let shape = [rows * step_y + gap, columns * step_x + gap, channels];
    let mut canvas = Canvas::new(shape, background);
    for (place, picture) in pictures.iter().enumerate() {
        let (row, column) = (place / columns, place % columns);
        canvas.paste(&picture, gap + row * step_y, gap + column * step_x, scale);
    }
    canvas.finish()
}

/// Puts pictures of the same height and channels beside each other, `gap` columns of `background` between them.
///
/// # Errors
/// [`DataError::Shape`] when there is no picture or when they differ in height or channels.
pub fn beside(pictures: &[Picture], gap: usize, background: u8) -> Result<Picture, DataError> {
    row("pictures side by side", pictures, 1, (gap, background))
}

/// Puts pictures of the same width and channels below each other, `gap` rows of `background` between them.
///
/// # Errors
/// [`DataError::Shape`] when there is no picture or when they differ in width or channels.
pub fn below(pictures: &[Picture], gap: usize, background: u8) -> Result<Picture, DataError> {
    row("pictures below each other", pictures, 0, (gap, background))
}

/// One picture after the other along the side at this place of a shape; the other sides must be the same.
fn row(
    what: &'static str,
    pictures: &[Picture],
    along: usize,
    (gap, background): (usize, u8),
) -> Result<Picture, DataError> {
    let Some(first) = pictures.first().map(Picture::shape) else {
        return DataError::misfit(what, "one or more", 0);
    };
    let mut shape = first;
    shape[along] = gap * (pictures.len() - 1);
    for other in pictures.iter().map(Picture::shape) {
        let across = [1 - along, 2];
        if across.map(|side| other[side]) != across.map(|side| first[side]) {
            let (expected, got) = (format!("{first:?} but for one side"), format!("{other:?}"));
            return DataError::misfit(what, expected, got);
        }
        shape[along] += other[along];
    }
    let mut canvas = Canvas::new(shape, background);
    let mut corner = [0, 0];
    for picture in pictures {
        canvas.paste(picture, corner[0], corner[1], 1);
        corner[along] += picture.shape()[along] + gap;
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
