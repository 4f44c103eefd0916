//! The header of a `.npy` array: a magic number, a version, a length, and a Python dictionary in text.

use std::io::Read;
use std::path::Path;

use crate::DataError;

const MAGIC: &[u8; 6] = b"\x93NUMPY";
/// Longest dictionary that is read; NumPy writes 118 bytes for an ordinary array.
const MAX_DICTIONARY: u32 = 65_535;
/// Most axes an array may have, as in NumPy.
const MAX_AXES: usize = 32;
/// NumPy aligns the elements to this.
const ALIGNMENT: usize = 64;

/// Element types that are read and written.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum DType {
    U8,
    I64,
    F16,
    F32,
    F64,
    /// Another integer type, which is read and widened to `I64` but never written.
    Integer(Integer),
}

/// Integer types that labels come in.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Integer {
    I8,
    I16,
    I32,
    U16,
    U32,
    U64,
}

/// What a header says.
#[derive(Debug, PartialEq)]
pub(crate) struct Header {
    pub(crate) dtype: DType,
    pub(crate) shape: Vec<u64>,
    /// Whether the first index runs fastest, as in Fortran, and not the last, as in C.
    pub(crate) by_columns: bool,
    /// Bytes before the first element.
    pub(crate) length: u64,
}

impl DType {
    const ALL: [Self; 11] = [
        Self::U8,
        Self::I64,
        Self::F16,
        Self::F32,
        Self::F64,
        Self::Integer(Integer::I8),
        Self::Integer(Integer::I16),
        Self::Integer(Integer::I32),
        Self::Integer(Integer::U16),
        Self::Integer(Integer::U32),
        Self::Integer(Integer::U64),
    ];

    fn name(self) -> &'static str {
        match self {
            Self::U8 => "|u1",
            Self::I64 => "<i8",
            Self::F16 => "<f2",
            Self::F32 => "<f4",
            Self::F64 => "<f8",
            Self::Integer(Integer::I8) => "|i1",
            Self::Integer(Integer::I16) => "<i2",
            Self::Integer(Integer::I32) => "<i4",
            Self::Integer(Integer::U16) => "<u2",
            Self::Integer(Integer::U32) => "<u4",
            Self::Integer(Integer::U64) => "<u8",
        }
    }

    /// Bytes of one element.
    pub(crate) fn bytes(self) -> usize {
        match self {
            Self::U8 | Self::Integer(Integer::I8) => 1,
            Self::F16 | Self::Integer(Integer::I16 | Integer::U16) => 2,
            Self::F32 | Self::Integer(Integer::I32 | Integer::U32) => 4,
            Self::I64 | Self::F64 | Self::Integer(Integer::U64) => 8,
        }
    }
}

/// A version 1.0 header.
pub(crate) fn encode(dtype: DType, shape: &[usize]) -> Vec<u8> {
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
    let name = dtype.name();
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
        return Err(DataError::field(
            file,
            0,
            "magic number",
            expected,
            magic.escape_ascii(),
        ));
    }
    let (size, prefix) = match (major, minor) {
        (1, 0) => (u32::from(u16::from_le_bytes(take(reader, file)?)), 10),
        (2 | 3, 0) => (u32::from_le_bytes(take(reader, file)?), 12),
        _ => {
            let got = format!("{major}.{minor}");
            return Err(DataError::field(file, 6, "version", "1.0, 2.0 or 3.0", got));
        }
    };
    if size > MAX_DICTIONARY {
        let (file, limit, got) = (file.to_owned(), u64::from(MAX_DICTIONARY), u128::from(size));
        return Err(DataError::Limit {
            file,
            what: "header size in bytes",
            limit,
            got,
        });
    }
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
    let got = bytes.len() as u64;
    if got == size {
        return Ok(bytes);
    }
    Err(DataError::Length {
        file: file.to_owned(),
        part: "header",
        expected: size,
        got,
    })
}

/// Where the text stops making sense, and what would have made sense there.
type Refused = (usize, &'static str);

/// Reads the dictionary: the three keys once each in any order, nothing else.
struct Parser<'a> {
    text: &'a [u8],
    place: usize,
}

impl Parser<'_> {
    fn dictionary(mut self) -> Result<(DType, bool, Vec<u64>), Refused> {
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

    fn dtype(&mut self) -> Result<DType, Refused> {
        let found = DType::ALL
            .into_iter()
            .find(|dtype| self.accept(&format!("'{}'", dtype.name())));
        found.ok_or((
            self.place,
            "an integer type, '<f2', '<f4' or '<f8', little-endian (objects are never read)",
        ))
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
        String::from_utf8_lossy(&encode(DType::F32, shape)[10..])
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
            let bytes = encode(DType::I64, &shape);
            assert_eq!(bytes.len() % ALIGNMENT, 0);
            let header = read(&mut bytes.as_slice(), Path::new("a.npy")).unwrap();
            let length = bytes.len() as u64;
            let shape = vec![u64::MAX; axes];
            assert_eq!(
                header,
                Header {
                    dtype: DType::I64,
                    shape,
                    by_columns: false,
                    length
                }
            );
        }
    }
}
