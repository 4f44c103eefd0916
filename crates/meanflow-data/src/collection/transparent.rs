//! A look for pictures that can be transparent, before anything is trained on them.

use rayon::prelude::*;

use super::ImageArchive;
use crate::DataError;
use crate::decode;

impl ImageArchive {
    /// Refuses a collection in which pictures have an alpha channel and nothing says what shows behind it: they are
    /// counted. Of the files that end in `.png` the headers are read, with a thread a core.
    ///
    /// Damaged files are passed over here: whoever decodes them says so.
    ///
    /// # Errors
    /// [`DataError::Transparent`].
    pub fn refuse_transparent(&self) -> Result<(), DataError> {
        if self.view().background.is_some() {
            return Ok(());
        }
        let is_png = |index: usize| self.name(index).to_ascii_lowercase().ends_with(".png");
        let (first, count) = (0..self.len())
            .into_par_iter()
            .filter(|&index| is_png(index) && self.has_alpha(index))
            .map(|index| (index, 1))
            .reduce(
                || (usize::MAX, 0),
                |one, other| (one.0.min(other.0), one.1 + other.1),
            );
        if count == 0 {
            return Ok(());
        }
        Err(DataError::Transparent {
            file: self.path(first),
            of: Some((count, self.len())),
        })
    }

    /// Whether the header of a picture says that it can be transparent.
    fn has_alpha(&self, index: usize) -> bool {
        let bytes = self.read_start(index);
        bytes
            .and_then(|bytes| decode::info(&self.path(index), &bytes))
            .is_ok_and(|info| info.has_alpha)
    }
}
