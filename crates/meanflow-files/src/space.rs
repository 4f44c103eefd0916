//! How much can still be written.

use std::path::Path;

use nix::sys::statvfs::statvfs;

use crate::layer;

/// Bytes that can still be written into the file system of a folder; none where it does not say.
pub fn free_space(folder: &Path) -> Option<u64> {
    layer::free_space(folder).or_else(|| {
        let free = statvfs(folder).ok()?;
        free.blocks_available().checked_mul(free.fragment_size())
    })
}
