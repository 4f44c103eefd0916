//! What every change of the file system passes on its way: nothing, unless a test puts something there.

use std::cell::RefCell;
use std::fmt::Debug;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// A change that is about to be made.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Operation {
    /// A new file, which is empty.
    CreateFile(PathBuf),
    /// Bytes put into a file from an offset on.
    Write {
        /// The file.
        path: PathBuf,
        /// Where the bytes begin.
        offset: u64,
        /// The bytes.
        bytes: Vec<u8>,
    },
    /// What was written into a file must be on the disk when this is done.
    SyncFile(PathBuf),
    /// The entries of a folder must be on the disk when this is done.
    SyncFolder(PathBuf),
    /// A file or folder gets another name, and takes the place of a file that has it.
    Rename {
        /// The old name.
        from: PathBuf,
        /// The new name.
        to: PathBuf,
    },
    /// A file is removed.
    RemoveFile(PathBuf),
    /// A folder is made, with its parents.
    CreateFolder(PathBuf),
    /// A folder is removed with all that is in it.
    RemoveFolder(PathBuf),
}

/// What becomes of a change.
#[derive(Debug)]
pub enum Effect {
    /// It is made.
    Whole,
    /// Of a write, at most so many bytes are written; another change is made.
    Short(usize),
    /// It is not made, and fails.
    Failed(io::Error),
}

/// Sees every change of its thread before it is made.
pub trait Layer: Debug {
    /// Decides what becomes of a change.
    fn before(&mut self, operation: Operation) -> Effect;

    /// The bytes that a folder's disk is said to have free; none asks the system.
    fn free_space(&mut self, _folder: &Path) -> Option<u64> {
        None
    }
}

thread_local! {
    static LAYER: RefCell<Option<Rc<RefCell<dyn Layer>>>> = const { RefCell::new(None) };
}

/// Does `work`, whose changes to files in this thread pass `layer`.
pub fn under<T>(layer: Rc<RefCell<dyn Layer>>, work: impl FnOnce() -> T) -> T {
    let before = LAYER.replace(Some(layer));
    let result = work();
    LAYER.set(before);
    result
}

/// What the layer says is free, if there is one and it says something.
pub(crate) fn free_space(folder: &Path) -> Option<u64> {
    let layer = LAYER.with_borrow(Clone::clone)?;
    layer.borrow_mut().free_space(folder)
}

/// Asks the layer, if there is one; the most bytes that may be written.
///
/// An interrupted change is tried again, as the standard library does.
pub(crate) fn ask(operation: impl Fn() -> Operation) -> io::Result<usize> {
    let Some(layer) = LAYER.with_borrow(Clone::clone) else {
        return Ok(usize::MAX);
    };
    loop {
        match layer.borrow_mut().before(operation()) {
            Effect::Whole => return Ok(usize::MAX),
            Effect::Short(bytes) => return Ok(bytes),
            Effect::Failed(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Effect::Failed(error) => return Err(error),
        }
    }
}
