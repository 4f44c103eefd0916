//! libtorch's forward mode: the level on which tangents live.

use std::cell::Cell;
use std::ffi::c_char;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::LibtorchError;
use crate::call::check;

unsafe extern "C" {
    fn mf_level_enter(level: *mut u64) -> *mut c_char;
    fn mf_level_exit(level: u64) -> *mut c_char;
}

static LEVEL: Mutex<()> = Mutex::new(());

thread_local! {
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// The one forward-mode level of the process, left when dropped, with the tangents that live on it.
#[derive(Debug)]
pub struct ForwardLevel {
    index: u64,
    _lock: MutexGuard<'static, ()>,
}

impl ForwardLevel {
    /// Enters the level. It is global to the process and does not nest: threads wait for each other.
    ///
    /// # Errors
    /// [`LibtorchError::Nested`] for a thread that is in it, and if libtorch refuses.
    pub fn enter() -> Result<Self, LibtorchError> {
        if INSIDE.get() {
            return Err(LibtorchError::Nested);
        }
        // A closure that panicked has left the level on its way out: the lock guards nothing that could be half-done.
        let lock = LEVEL.lock().unwrap_or_else(PoisonError::into_inner);
        let mut index = 0;
        // SAFETY: `index` outlives the call.
        check("enter forward-mode level", unsafe {
            mf_level_enter(&raw mut index)
        })?;
        INSIDE.set(true);
        Ok(Self { index, _lock: lock })
    }

    /// Its number, which libtorch's operations on dual tensors are told.
    pub fn index(&self) -> i64 {
        self.index as i64
    }
}

impl Drop for ForwardLevel {
    fn drop(&mut self) {
        INSIDE.set(false);
        // Only an index that is not the current level is refused, and this one is. SAFETY: no memory is passed.
        let _ = check("exit forward-mode level", unsafe {
            mf_level_exit(self.index)
        });
    }
}
