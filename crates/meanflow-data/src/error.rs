//! What can be wrong with data: every variant names the file, what was expected and what was found.

use std::io;
use std::path::{Path, PathBuf};

use zip::result::ZipError;

/// Why a file could not be read or written, or an array does not have the shape it should.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// The operating system refused.
    #[error("{}: {source}", file.display())]
    Io {
        /// The file or folder concerned.
        file: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The operating system refused to write.
    #[error("{}: could not write: {source}", file.display())]
    Write {
        /// The file or folder concerned.
        file: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A field of a file has a value that its format forbids.
    #[error("{}: {field} at byte {offset}: expected {expected}, got {got}", file.display())]
    Field {
        /// The file concerned.
        file: PathBuf,
        /// Where the field starts, in bytes from the start of the file (or of the archive member).
        offset: u64,
        /// Name of the field.
        field: &'static str,
        /// What the format allows.
        expected: String,
        /// What the file holds.
        got: String,
    },
    /// A file is shorter or longer than its header says.
    #[error("{}: {part}: expected {expected} bytes, got {got}", file.display())]
    Length {
        /// The file concerned.
        file: PathBuf,
        /// Which part of it.
        part: &'static str,
        /// Bytes that the header promises, or that the header itself needs.
        expected: u64,
        /// Bytes that are there.
        got: u64,
    },
    /// A size is above what this crate (or the caller) is ready to allocate; nothing was allocated.
    #[error("{}: {what} is {got}, more than the limit {limit}", file.display())]
    Limit {
        /// The file concerned.
        file: PathBuf,
        /// Name of the size.
        what: &'static str,
        /// Largest accepted value.
        limit: u64,
        /// What the file asks for.
        got: u128,
    },
    /// A zip archive that cannot be read or written.
    #[error("{}: {source}", file.display())]
    Archive {
        /// The archive concerned.
        file: PathBuf,
        /// What the zip library said.
        source: ZipError,
    },
    /// A picture file that is damaged.
    #[error("{}: {reason}", file.display())]
    Decode {
        /// The picture file concerned.
        file: PathBuf,
        /// What the decoder said.
        reason: String,
    },
    /// Pictures have transparent pixels, and nothing says what shows behind them.
    #[error(
        "{}: transparent pixels, and nothing says what shows behind them{}; set `data.background` in a recipe, or `--background`, to \
         \"white\", \"black\" or \"#rrggbb\", or to \"keep-rgb\" for the colours that are stored under them",
        file.display(), counted(*of)
    )]
    Transparent {
        /// The first such picture.
        file: PathBuf,
        /// How many pictures can have such pixels, of how many, where they were counted.
        of: Option<(usize, usize)>,
    },
    /// A picture that cannot be encoded.
    #[error("{}: {source}", file.display())]
    Encode {
        /// The picture file concerned.
        file: PathBuf,
        /// What the encoder said.
        source: image::ImageError,
    },
    /// A data set that this program has not registered.
    #[error(transparent)]
    Registry(meanflow_core::RegistryError),
    /// Arrays handed to this crate do not fit each other.
    #[error("{what}: expected {expected}, got {got}")]
    Shape {
        /// Which array.
        what: &'static str,
        /// What would fit.
        expected: String,
        /// What was given.
        got: String,
    },
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "numbers and fresh texts, shown once"
)]
impl DataError {
    /// Attaches a file name to an error of the operating system.
    pub(crate) fn io(file: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io {
            file: file.to_owned(),
            source,
        }
    }

    /// Attaches a file name to an error of the operating system while `file` was written.
    pub(crate) fn write(file: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Write {
            file: file.to_owned(),
            source,
        }
    }

    /// A field of `file` that its format forbids.
    pub(crate) fn field(
        file: &Path,
        offset: u64,
        field: &'static str,
        expected: impl ToString,
        got: impl ToString,
    ) -> Self {
        let (expected, got) = (expected.to_string(), got.to_string());
        Self::Field {
            file: file.to_owned(),
            offset,
            field,
            expected,
            got,
        }
    }

    /// As [`DataError::field`], for the end of a function.
    pub(crate) fn refuse<T>(
        file: &Path,
        offset: u64,
        field: &'static str,
        expected: impl ToString,
        got: impl ToString,
    ) -> Result<T, Self> {
        Err(Self::field(file, offset, field, expected, got))
    }

    /// A part of `file` that is not as long as it should be.
    pub(crate) fn length(file: &Path, part: &'static str, expected: u64, got: u64) -> Self {
        let file = file.to_owned();
        Self::Length {
            file,
            part,
            expected,
            got,
        }
    }

    /// Refuses a part of `file` that is not as long as it should be.
    pub(crate) fn of_length(
        file: &Path,
        part: &'static str,
        expected: u64,
        got: u64,
    ) -> Result<(), Self> {
        let refused = || Self::length(file, part, expected, got);
        (got == expected).then_some(()).ok_or_else(refused)
    }

    /// Refuses a size above `limit`.
    pub(crate) fn within(
        file: &Path,
        what: &'static str,
        limit: u64,
        got: impl Into<u128>,
    ) -> Result<(), Self> {
        let got = got.into();
        let refused = || Self::Limit {
            file: file.to_owned(),
            what,
            limit,
            got,
        };
        let fits = got <= u128::from(limit);
        fits.then_some(()).ok_or_else(refused)
    }

    /// A picture file that is damaged.
    pub(crate) fn decode(file: &Path, reason: impl ToString) -> Self {
        let (file, reason) = (file.to_owned(), reason.to_string());
        Self::Decode { file, reason }
    }

    /// Attaches a file name to an error of the zip library.
    pub(crate) fn archive(file: &Path) -> impl Fn(ZipError) -> Self {
        move |source| Self::Archive {
            file: file.to_owned(),
            source,
        }
    }

    /// Arrays that do not fit.
    pub(crate) fn shape(what: &'static str, expected: impl ToString, got: impl ToString) -> Self {
        Self::Shape {
            what,
            expected: expected.to_string(),
            got: got.to_string(),
        }
    }

    /// As [`DataError::shape`], for the end of a function.
    pub(crate) fn misfit<T>(
        what: &'static str,
        expected: impl ToString,
        got: impl ToString,
    ) -> Result<T, Self> {
        Err(Self::shape(what, expected, got))
    }
}

/// How many pictures have an alpha channel.
fn counted(of: Option<(usize, usize)>) -> String {
    of.map_or_else(String::new, |(transparent, all)| {
        format!(" ({transparent} of {all} pictures have an alpha channel)")
    })
}
