//! A look for pictures that can be transparent, before anything is trained on them.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use super::ImageArchive;
use crate::DataError;
use crate::decode;

/// Pictures that one thread looks at in one go.
const PORTION: usize = 64;

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
        let is_png = |&index: &usize| self.name(index).to_ascii_lowercase().ends_with(".png");
        let candidates: Vec<usize> = (0..self.len()).filter(is_png).collect();
        let threads = thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let (next, first, count) = (
            AtomicUsize::new(0),
            AtomicUsize::new(usize::MAX),
            AtomicUsize::new(0),
        );
        thread::scope(|scope| {
            for _ in 0..threads.min(candidates.len().div_ceil(PORTION)) {
                scope.spawn(|| {
                    loop {
                        let start = next.fetch_add(PORTION, Ordering::Relaxed);
                        let Some(rest) = candidates.get(start..).filter(|rest| !rest.is_empty())
                        else {
                            break;
                        };
                        for &index in rest
                            .iter()
                            .take(PORTION)
                            .filter(|index| self.has_alpha(**index))
                        {
                            count.fetch_add(1, Ordering::Relaxed);
                            first.fetch_min(index, Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        match first.into_inner() {
            usize::MAX => Ok(()),
            first => Err(DataError::Transparent {
                file: self.path(first),
                of: Some((count.into_inner(), self.len())),
            }),
        }
    }

    /// Whether the header of a picture says that it can be transparent.
    fn has_alpha(&self, index: usize) -> bool {
        let bytes = self.read_start(index);
        bytes
            .and_then(|bytes| decode::info(&self.path(index), &bytes))
            .is_ok_and(|info| info.has_alpha)
    }
}
