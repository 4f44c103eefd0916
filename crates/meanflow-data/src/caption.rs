//! Words on pictures: a strip with a line of text above a grid, and names above its columns. Letters are capitals of 5×7 pixels.

use crate::DataError;
use crate::grid::below;
use crate::picture::Picture;

/// Brightness of a strip and of the letters on it.
const STRIP: u8 = 24;
const LETTERS: u8 = 235;
/// Width of a letter with the space behind it, height of one, and of the strip around it, at scale 1.
const ADVANCE: usize = 6;
const HEIGHT: usize = 7;
const STRIP_HEIGHT: usize = 13;
/// From this width of the picture on letters are of double size.
const WIDE: usize = 480;

/// The picture below a strip with this text, cut where it is too long.
///
/// # Errors
/// Never for a picture that exists.
pub fn captioned(picture: &Picture, text: &str) -> Result<Picture, DataError> {
    let [_, width, channels] = picture.shape();
    let scale = if width >= WIDE { 2 } else { 1 };
    let mut strip = Strip::new(width, scale);
    strip.write(text, 3 * scale, width);
    below(&[strip.picture(channels)?, picture.clone()], 0, STRIP)
}

/// The picture below a strip with a name in the middle of each of these equally wide columns, cut where it is too long.
///
/// # Errors
/// Never for a picture that exists.
pub fn columns_named(picture: &Picture, names: &[String]) -> Result<Picture, DataError> {
    let [_, width, channels] = picture.shape();
    let mut strip = Strip::new(width, 1);
    let column = width / names.len().max(1);
    for (place, name) in names.iter().enumerate() {
        let letters = name.chars().count().min(column / ADVANCE);
        let start = place * column + (column - letters * ADVANCE) / 2;
        strip.write(name, start, (place + 1) * column);
    }
    below(&[strip.picture(channels)?, picture.clone()], 0, STRIP)
}

/// A strip of grey pixels.
struct Strip {
    width: usize,
    scale: usize,
    pixels: Vec<u8>,
}

impl Strip {
    fn new(width: usize, scale: usize) -> Self {
        Self {
            width,
            scale,
            pixels: vec![STRIP; width * STRIP_HEIGHT * scale],
        }
    }

    /// Writes whole letters between two columns.
    fn write(&mut self, text: &str, start: usize, end: usize) {
        let advance = ADVANCE * self.scale;
        for (place, letter) in text.chars().enumerate() {
            let left = start + place * advance;
            if left + advance > end.min(self.width) {
                return;
            }
            self.letter(letter, left);
        }
    }

    fn letter(&mut self, letter: char, left: usize) {
        let (scale, rows) = (self.scale, rows_of(letter));
        let top = (STRIP_HEIGHT - HEIGHT) / 2 * scale;
        for y in 0..HEIGHT * scale {
            for x in 0..5 * scale {
                if rows[y / scale] & (16 >> (x / scale)) != 0 {
                    self.pixels[(top + y) * self.width + left + x] = LETTERS;
                }
            }
        }
    }

    fn picture(&self, channels: usize) -> Result<Picture, DataError> {
        let pixels = self.pixels.iter().flat_map(|&pixel| vec![pixel; channels]);
        let shape = [STRIP_HEIGHT * self.scale, self.width, channels];
        Picture::new(shape, pixels.collect())
    }
}

/// The seven rows of a letter, five bits each; a box for one that there is not.
fn rows_of(letter: char) -> [u8; HEIGHT] {
    let letter = letter.to_ascii_uppercase();
    let known = GLYPHS.iter().find(|(known, _)| *known == letter);
    known.map_or([31, 17, 17, 17, 17, 17, 31], |(_, rows)| *rows)
}

#[rustfmt::skip]
const GLYPHS: [(char, [u8; HEIGHT]); 51] = [
    (' ', [0; HEIGHT]),
    ('0', [14, 17, 19, 21, 25, 17, 14]), ('1', [4, 12, 4, 4, 4, 4, 14]), ('2', [14, 17, 1, 6, 8, 16, 31]),
    ('3', [14, 17, 1, 6, 1, 17, 14]), ('4', [2, 6, 10, 18, 31, 2, 2]), ('5', [31, 16, 30, 1, 1, 17, 14]),
    ('6', [6, 8, 16, 30, 17, 17, 14]), ('7', [31, 1, 2, 4, 4, 8, 8]), ('8', [14, 17, 17, 14, 17, 17, 14]),
    ('9', [14, 17, 17, 15, 1, 2, 12]),
    ('A', [14, 17, 17, 31, 17, 17, 17]), ('B', [30, 17, 17, 30, 17, 17, 30]), ('C', [14, 17, 16, 16, 16, 17, 14]),
    ('D', [30, 17, 17, 17, 17, 17, 30]), ('E', [31, 16, 16, 30, 16, 16, 31]), ('F', [31, 16, 16, 30, 16, 16, 16]),
    ('G', [14, 17, 16, 23, 17, 17, 14]), ('H', [17, 17, 17, 31, 17, 17, 17]), ('I', [14, 4, 4, 4, 4, 4, 14]),
    ('J', [7, 2, 2, 2, 2, 18, 12]), ('K', [17, 18, 20, 24, 20, 18, 17]), ('L', [16, 16, 16, 16, 16, 16, 31]),
    ('M', [17, 27, 21, 21, 17, 17, 17]), ('N', [17, 25, 25, 21, 19, 19, 17]), ('O', [14, 17, 17, 17, 17, 17, 14]),
    ('P', [30, 17, 17, 30, 16, 16, 16]), ('Q', [14, 17, 17, 17, 21, 18, 13]), ('R', [30, 17, 17, 30, 20, 18, 17]),
    ('S', [15, 16, 16, 14, 1, 1, 30]), ('T', [31, 4, 4, 4, 4, 4, 4]), ('U', [17, 17, 17, 17, 17, 17, 14]),
    ('V', [17, 17, 17, 17, 10, 10, 4]), ('W', [17, 17, 17, 21, 21, 27, 17]), ('X', [17, 17, 10, 4, 10, 17, 17]),
    ('Y', [17, 17, 10, 4, 4, 4, 4]), ('Z', [31, 1, 2, 4, 8, 16, 31]),
    ('.', [0, 0, 0, 0, 0, 12, 12]), (',', [0, 0, 0, 0, 12, 4, 8]), (':', [0, 12, 12, 0, 12, 12, 0]),
    ('-', [0, 0, 0, 31, 0, 0, 0]), ('_', [0, 0, 0, 0, 0, 0, 31]), ('+', [0, 4, 4, 31, 4, 4, 0]),
    ('=', [0, 0, 31, 0, 31, 0, 0]), ('/', [1, 2, 2, 4, 8, 8, 16]), ('(', [2, 4, 8, 8, 8, 4, 2]),
    (')', [8, 4, 2, 2, 2, 4, 8]), ('%', [24, 25, 2, 4, 8, 19, 3]), ('\'', [4, 4, 8, 0, 0, 0, 0]),
    ('#', [10, 10, 31, 10, 31, 10, 10]), ('&', [12, 18, 20, 8, 21, 18, 13]),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn grey(height: usize, width: usize, channels: usize) -> Picture {
        let pixels = vec![100; height * width * channels];
        Picture::new([height, width, channels], pixels).unwrap()
    }

    #[test]
    fn the_picture_stays_as_it_is_below_its_words() {
        for (width, strip) in [(40, 13), (600, 26)] {
            let picture = grey(4, width, 3);
            let both = captioned(&picture, "one step, of many more than fit").unwrap();
            assert_eq!(both.shape(), [4 + strip, width, 3]);
            let (above, below) = both.pixels().split_at(strip * width * 3);
            assert_eq!(below, picture.pixels());
            assert!(above.contains(&LETTERS) && above.contains(&STRIP));
        }
    }

    #[test]
    fn a_name_stays_in_its_column() {
        let names = ["a".to_owned(), String::new(), "far too long".to_owned()];
        let both = columns_named(&grey(2, 60, 1), &names).unwrap();
        let lit = |from: usize, to: usize| {
            let rows = both.pixels().chunks(60).take(STRIP_HEIGHT);
            rows.flat_map(|row| row[from..to].to_vec())
                .filter(|&pixel| pixel == LETTERS)
                .count()
        };
        let bits: u32 = rows_of('A').iter().map(|row| row.count_ones()).sum();
        assert_eq!(lit(0, 20), bits as usize);
        assert_eq!(lit(20, 40), 0);
        assert!(lit(40, 60) > 0);
    }

    #[test]
    fn every_letter_is_there_once_and_has_five_columns() {
        for (index, (letter, rows)) in GLYPHS.iter().enumerate() {
            assert!(rows.iter().all(|row| *row < 32), "{letter}");
            assert!(
                GLYPHS[..index].iter().all(|(other, _)| other != letter),
                "{letter}"
            );
        }
    }
}
