//! The header of a safetensors file: eight bytes of its length, then JSON with names, types, shapes and places.

use std::io::{self, Read};

use safetensors::tensor::Metadata;
use thiserror::Error;

/// The header of a file that is as long as it says.
#[derive(Debug)]
pub struct SafetensorsHeader {
    /// Names, types, shapes and places of the tensors, and free text by key.
    pub metadata: Metadata,
    /// Bytes before the first tensor.
    pub start: u64,
}

/// Why a file is no whole safetensors file.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SafetensorsError {
    /// It cannot be read.
    #[error("cannot read the header")]
    Read(#[from] io::Error),
    /// It is shorter than the shortest.
    #[error("a safetensors file has at least 8 bytes, this has {0}")]
    Short(u64),
    /// The header is longer than the file, or than is read.
    #[error("not a safetensors file: a header of {length} bytes, at most {limit}")]
    Header {
        /// What the file says of it.
        length: u64,
        /// What is left of the file, or the most that is read.
        limit: u64,
    },
    /// The header is no description of tensors.
    #[error("unreadable header: {0}")]
    Json(#[from] serde_json::Error),
    /// The tensors do not end where the file ends.
    #[error("truncated or overlong: expected {expected} bytes, got {got}")]
    Length {
        /// The length that the header tells of.
        expected: u64,
        /// The length of the file.
        got: u64,
    },
}

impl SafetensorsHeader {
    /// Reads the header, of at most `limit` bytes, of a file of `length` bytes; the reader stands at the first tensor then.
    ///
    /// # Errors
    /// If the file is not a header and the tensors that it describes, to the byte.
    pub fn read(mut reader: impl Read, length: u64, limit: u64) -> Result<Self, SafetensorsError> {
        let Some(rest) = length.checked_sub(8) else {
            return Err(SafetensorsError::Short(length));
        };
        let mut word = [0; 8];
        reader.read_exact(&mut word)?;
        let header = u64::from_le_bytes(word);
        let limit = limit.min(rest);
        if header > limit {
            return Err(SafetensorsError::Header {
                length: header,
                limit,
            });
        }
        let mut json = vec![0; header as usize];
        reader.read_exact(&mut json)?;
        let metadata: Metadata = serde_json::from_slice(&json)?;
        let start = 8 + header;
        let expected = start.saturating_add(metadata.data_len() as u64);
        if expected != length {
            return Err(SafetensorsError::Length {
                expected,
                got: length,
            });
        }
        Ok(Self { metadata, start })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8], limit: u64) -> Result<SafetensorsHeader, SafetensorsError> {
        SafetensorsHeader::read(bytes, bytes.len() as u64, limit)
    }

    /// A file of two numbers of `F32`.
    fn file() -> Vec<u8> {
        let json = r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#;
        let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
        bytes.extend(json.as_bytes());
        bytes.extend([0; 8]);
        bytes
    }

    #[test]
    fn a_whole_file_is_read_and_every_other_length_is_refused() {
        let whole = file();
        let header = read(&whole, 1000).unwrap();
        assert_eq!(header.start, whole.len() as u64 - 8);
        assert_eq!(header.metadata.info("a").unwrap().shape, [2]);
        for length in 0..whole.len() {
            assert!(read(&whole[..length], 1000).is_err(), "{length}");
        }
        let long = [whole.as_slice(), &[0]].concat();
        assert!(matches!(
            read(&long, 1000),
            Err(SafetensorsError::Length { .. })
        ));
    }

    #[test]
    fn a_header_beyond_the_limit_is_not_read() {
        let whole = file();
        let header = whole.len() as u64 - 16;
        assert!(read(&whole, header).is_ok());
        let error = read(&whole, header - 1).unwrap_err();
        assert!(matches!(error, SafetensorsError::Header { .. }), "{error}");
        let absurd = [u64::MAX.to_le_bytes().as_slice(), b"{}"].concat();
        let error = read(&absurd, u64::MAX).unwrap_err();
        assert!(matches!(error, SafetensorsError::Header { .. }), "{error}");
    }

    #[test]
    fn text_that_describes_no_tensors_is_refused() {
        let bytes = [2_u64.to_le_bytes().as_slice(), b"[]"].concat();
        let error = read(&bytes, 10).unwrap_err();
        assert!(matches!(error, SafetensorsError::Json(_)), "{error}");
    }
}
