//! The header of a `.npy` array: a magic number, a version, a length, and a Python dictionary in text.

use std::io::Read;
use std::path::Path;

use safetensors::Dtype;

use crate::DataError;

const MAGIC: &[u8; 6] = b"\x93NUMPY";
/// Longest dictionary that is read; NumPy writes 118 bytes for an ordinary array.
const MAX_DICTIONARY: u64 = 65_535;
/// Most axes an array may have, as in NumPy.
const MAX_AXES: usize = 32;
/// NumPy aligns the elements to this.
const ALIGNMENT: usize = 64;

/// Element types with NumPy's names. All are read, integers of another size than `|u1` as `<i8`; bytes, `<i8` and floating-point
/// numbers are written.
const DTYPES: [(Dtype, &str); 11] = [
    (Dtype::U8, "|u1"),
    (Dtype::I64, "<i8"),
    (Dtype::F16, "<f2"),
    (Dtype::F32, "<f4"),
    (Dtype::F64, "<f8"),
    (Dtype::I8, "|i1"),
    (Dtype::I16, "<i2"),
    (Dtype::I32, "<i4"),
    (Dtype::U16, "<u2"),
    (Dtype::U32, "<u4"),
    (Dtype::U64, "<u8"),
];

/// What a header says.
#[derive(Debug, PartialEq)]
pub(crate) struct Header {
    pub(crate) dtype: Dtype,
    pub(crate) shape: Vec<u64>,
    /// Whether the first index runs fastest, as in Fortran, and not the last, as in C.
    pub(crate) by_columns: bool,
    /// Bytes before the first element.
    pub(crate) length: u64,
}

impl Header {
    /// Bytes of all elements, as far as they can be counted.
    pub(crate) fn payload(&self) -> u128 {
        let mut sides = self.shape.iter().map(|&side| u128::from(side));
        let bytes = u128::from(bytes_of(self.dtype));
        let bytes = sides.try_fold(bytes, u128::checked_mul);
        bytes.unwrap_or(u128::MAX)
    }
}

/// Bytes of one element.
pub(crate) fn bytes_of(dtype: Dtype) -> u64 {
    dtype.bitsize() as u64 / 8
}

/// A version 1.0 header.
pub(crate) fn encode(dtype: Dtype, shape: &[usize]) -> Vec<u8> {
    let axes = shape
        .iter()
        .map(|side| format!("{side},"))
        .collect::<String>();
    // A tuple of one keeps its comma, a longer one drops it, as Python prints them.
    let axes = if shape.len() > 1 {
        axes.trim_end_matches(',')
    } else {
        &axes
    };
    let axes = axes.replace(',', ", ");
    let known = DTYPES.iter().find(|(known, _)| *known == dtype);
    let name = known.map_or("", |(_, name)| name);
    let mut text = format!(
        "{{'descr': '{name}', 'fortran_order': False, 'shape': ({}), }}",
        axes.trim_end()
    );
    let unpadded = MAGIC.len() + 4 + text.len() + 1;
    text.push_str(&" ".repeat(unpadded.next_multiple_of(ALIGNMENT) - unpadded));
    text.push('\n');
    let mut bytes = MAGIC.to_vec();
    bytes.extend([1, 0]);
    // At most 32 axes of 20 digits: below 2¹⁶.
    bytes.extend((text.len() as u16).to_le_bytes());
    bytes.extend(text.as_bytes());
    bytes
}

/// Reads a header and leaves the reader at the first element.
pub(crate) fn read(reader: &mut impl Read, file: &Path) -> Result<Header, DataError> {
    let start: [u8; 8] = take(reader, file)?;
    let ([magic @ .., major, minor], expected) = (start, "\\x93NUMPY");
    if magic != *MAGIC {
        let got = magic.escape_ascii();
        return DataError::refuse(file, 0, "magic number", expected, got);
    }
    let (size, prefix) = match (major, minor) {
        (1, 0) => (u32::from(u16::from_le_bytes(take(reader, file)?)), 10),
        (2 | 3, 0) => (u32::from_le_bytes(take(reader, file)?), 12),
        _ => {
            let got = format!("{major}.{minor}");
            return DataError::refuse(file, 6, "version", "1.0, 2.0 or 3.0", got);
        }
    };
    DataError::within(file, "header size in bytes", MAX_DICTIONARY, size)?;
    let text = exactly(reader, u64::from(size), file)?;
    let refuse = |(offset, expected): (usize, &'static str)| {
        let rest = text.get(offset..).unwrap_or_default();
        let got = rest[..rest.len().min(40)].escape_ascii();
        DataError::field(file, prefix + offset as u64, "header", expected, got)
    };
    let (dtype, by_columns, shape) = Parser {
        text: &text,
        place: 0,
    }
    .dictionary()
    .map_err(refuse)?;
    Ok(Header {
        dtype,
        shape,
        by_columns,
        length: prefix + u64::from(size),
    })
}

fn take<const K: usize>(reader: &mut impl Read, file: &Path) -> Result<[u8; K], DataError> {
    let mut bytes = [0; K];
    bytes.copy_from_slice(&exactly(reader, K as u64, file)?);
    Ok(bytes)
}

/// The next `size` bytes, of which there are few.
fn exactly(reader: &mut impl Read, size: u64, file: &Path) -> Result<Vec<u8>, DataError> {
    let mut bytes = Vec::new();
    reader
        .take(size)
        .read_to_end(&mut bytes)
        .map_err(DataError::io(file))?;
    DataError::of_length(file, "header", size, bytes.len() as u64)?;
    Ok(bytes)
}

/// Where the text stops making sense, and what would have made sense there.
type Refused = (usize, &'static str);

/// Reads the dictionary: the three keys once each in any order, nothing else.
struct Parser<'a> {
    text: &'a [u8],
    place: usize,
}

impl Parser<'_> {
    fn dictionary(mut self) -> Result<(Dtype, bool, Vec<u64>), Refused> {
        let (mut dtype, mut order, mut shape) = (None, None, None);
        self.expect("{")?;
        while !self.accept("}") {
            let start = self.place;
            let seen = if self.accept("'descr'") {
                self.expect(":")?;
                dtype.replace(self.dtype()?).is_some()
            } else if self.accept("'fortran_order'") {
                self.expect(":")?;
                order.replace(self.order()?).is_some()
            } else if self.accept("'shape'") {
                self.expect(":")?;
                shape.replace(self.shape()?).is_some()
            } else {
                return Err((start, "'descr', 'fortran_order' or 'shape'"));
            };
            if seen {
                return Err((start, "every key once"));
            }
            if !self.accept(",") {
                self.expect("}")?;
                break;
            }
        }
        self.spaces();
        if self.place != self.text.len() {
            return Err((self.place, "nothing after the dictionary"));
        }
        let missing = (0, "'descr', 'fortran_order' and 'shape'");
        let shape = shape.ok_or(missing)?;
        Ok((dtype.ok_or(missing)?, order.ok_or(missing)?, shape))
    }

    /// Whether columns stand one after the other, as in Fortran, or else rows, as in C.
    fn order(&mut self) -> Result<bool, Refused> {
        let by_columns = self.accept("True");
        if !by_columns && !self.accept("False") {
            return Err((self.place, "True or False"));
        }
        Ok(by_columns)
    }

    fn dtype(&mut self) -> Result<Dtype, Refused> {
        let expected =
            "an integer type, '<f2', '<f4' or '<f8', little-endian (objects are never read)";
        let mut dtypes = DTYPES.iter();
        let found = dtypes.find(|(_, name)| self.accept(&format!("'{name}'")));
        found.map(|(dtype, _)| *dtype).ok_or((self.place, expected))
    }

    fn shape(&mut self) -> Result<Vec<u64>, Refused> {
        let mut shape = Vec::new();
        self.expect("(")?;
        while !self.accept(")") {
            if shape.len() == MAX_AXES {
                return Err((self.place, "at most 32 axes"));
            }
            shape.push(self.number()?);
            if !self.accept(",") {
                // `(3)` is a number in Python, not a tuple.
                if shape.len() == 1 {
                    return Err((self.place, "a comma"));
                }
                self.expect(")")?;
                break;
            }
        }
        Ok(shape)
    }

    fn number(&mut self) -> Result<u64, Refused> {
        self.spaces();
        let rest = &self.text[self.place..];
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let value = std::str::from_utf8(&rest[..digits])
            .ok()
            .and_then(|text| text.parse().ok());
        let value = value.ok_or((self.place, "the length of an axis"))?;
        self.place += digits;
        Ok(value)
    }

    /// Steps over `token` (and the space before it), or says what was missing.
    fn expect(&mut self, token: &'static str) -> Result<(), Refused> {
        if self.accept(token) {
            Ok(())
        } else {
            Err((self.place, token))
        }
    }

    /// Steps over `token` if it is next.
    fn accept(&mut self, token: &str) -> bool {
        self.spaces();
        let found = self.text[self.place..].starts_with(token.as_bytes());
        if found {
            self.place += token.len();
        }
        found
    }

    fn spaces(&mut self) {
        let blank = |byte: &&u8| matches!(byte, b' ' | b'\n');
        self.place += self.text[self.place..].iter().take_while(blank).count();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text_of(shape: &[usize]) -> String {
        String::from_utf8_lossy(&encode(Dtype::F32, shape)[10..])
            .trim_end()
            .to_owned()
    }

    #[test]
    fn shapes_print_as_python_tuples() {
        assert!(text_of(&[]).contains("'shape': (), }"));
        assert!(text_of(&[3]).contains("'shape': (3,), }"));
        assert!(text_of(&[3, 4]).contains("'shape': (3, 4), }"));
    }

    #[test]
    fn headers_are_aligned_and_read_back() {
        for axes in 0..=MAX_AXES {
            let shape = vec![usize::MAX; axes];
            let bytes = encode(Dtype::I64, &shape);
            assert_eq!(bytes.len() % ALIGNMENT, 0);
            let header = read(&mut bytes.as_slice(), Path::new("a.npy")).unwrap();
            let length = bytes.len() as u64;
            let shape = vec![u64::MAX; axes];
            assert_eq!(
                header,
                Header {
                    dtype: Dtype::I64,
                    shape,
                    by_columns: false,
                    length
                }
            );
        }
    }
}
