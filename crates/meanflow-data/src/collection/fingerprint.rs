//! What two collections of the same pictures have in common, wherever they lie.

use super::{ImageArchive, Place};
use crate::DataError;
use crate::fingerprint::Fingerprint;

/// Contents of no more bytes than this are hashed whole; of more, those of some pictures.
const WHOLE: u64 = 64 << 20;
/// Pictures whose contents are hashed where there are too many bytes.
const SOME: usize = 256;

impl ImageArchive {
    /// A hash of names, sizes and labels, and of the contents where they are less than 64 MiB or the archive has their
    /// check sums; otherwise of 256 pictures, evenly apart. It does not depend on where the collection lies.
    ///
    /// # Errors
    /// [`DataError::Io`].
    pub fn fingerprint(&self) -> Result<String, DataError> {
        let mut hash = Fingerprint::new("pictures");
        hash.names(self.class_names());
        let (mut total, mut summed) = (0, true);
        for (index, entry) in self.found.entries.iter().enumerate() {
            let size = self.size(index)?;
            let sum = match entry.place {
                Place::File => None,
                Place::Part { inside, .. } => inside.map(|inside| inside.crc32),
            };
            hash.text(&entry.name);
            hash.numbers(&[size, sum.unwrap_or(0).into()]);
            total += size;
            summed &= sum.is_some();
        }
        hash.labels(self.labels());
        let step = match (summed, total <= WHOLE) {
            (true, _) => return Ok(hash.finish()),
            (false, true) => 1,
            (false, false) => self.len().div_ceil(SOME),
        };
        for index in (0..self.len()).step_by(step) {
            hash.bytes(&self.read(index)?);
        }
        Ok(hash.finish())
    }
}
