//! CUDA graphs.

use std::ffi::c_char;
use std::ptr::NonNull;

use tch::Tensor;
use torch_sys::C_tensor;

use crate::LibtorchError;
use crate::call::{check, handles};

/// The C++ side's recorder, behind a pointer.
#[repr(C)]
struct Opaque {
    _private: [u8; 0],
}

unsafe extern "C" {
    fn mf_recorder_new(out: *mut *mut Opaque, device: i64) -> *mut c_char;
    fn mf_recorder_free(recorder: *mut Opaque);
    fn mf_recorder_enter(recorder: *mut Opaque) -> *mut c_char;
    fn mf_recorder_leave(recorder: *mut Opaque) -> *mut c_char;
    fn mf_recorder_begin(recorder: *mut Opaque) -> *mut c_char;
    fn mf_recorder_end(recorder: *mut Opaque) -> *mut c_char;
    fn mf_recorder_replay(recorder: *mut Opaque) -> *mut c_char;
    fn mf_changed(tensors: *const *const C_tensor, count: usize);
}

/// A stream of a CUDA device beside its default one, and the work that was recorded on it.
#[derive(Debug)]
pub(crate) struct Recorder(NonNull<Opaque>);

impl Recorder {
    /// One that has recorded nothing.
    pub(crate) fn new(device: usize) -> Result<Self, LibtorchError> {
        let mut out = std::ptr::null_mut();
        // SAFETY: `out` outlives the call.
        check("make a stream", unsafe {
            mf_recorder_new(&raw mut out, device as i64)
        })?;
        Ok(Self(
            NonNull::new(out).expect("the call gave a recorder or a message"),
        ))
    }

    /// Does `work` on the recorder's stream; everything before it is done then, and it is done afterwards.
    pub(crate) fn beside<T, E: From<LibtorchError>>(
        &self,
        work: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, E> {
        // SAFETY: the recorder is live, here and below.
        check("enter a stream", unsafe {
            mf_recorder_enter(self.0.as_ptr())
        })?;
        let entered = Leave(self);
        let result = work()?;
        entered.leave()?;
        Ok(result)
    }

    /// Records `work`, of which nothing happens before a replay.
    pub(crate) fn record<T, E: From<LibtorchError>>(
        &self,
        work: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, E> {
        self.beside(|| {
            // SAFETY: the recorder is live, here and below.
            check("begin a recording", unsafe {
                mf_recorder_begin(self.0.as_ptr())
            })?;
            let result = work();
            // Also where the work failed: the stream must not go on recording.
            let ended = check("end a recording", unsafe {
                mf_recorder_end(self.0.as_ptr())
            });
            let result = result?;
            ended?;
            Ok(result)
        })
    }

    /// Does what was recorded last.
    pub(crate) fn replay(&self) -> Result<(), LibtorchError> {
        // SAFETY: the recorder is live and has recorded.
        check("replay", unsafe { mf_recorder_replay(self.0.as_ptr()) })
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        // SAFETY: made once by the C++ side, freed once.
        unsafe { mf_recorder_free(self.0.as_ptr()) }
    }
}

/// Leaves the recorder's stream, also where the work on it failed or panicked.
struct Leave<'a>(&'a Recorder);

impl Leave<'_> {
    fn leave(self) -> Result<(), LibtorchError> {
        let recorder = self.0;
        std::mem::forget(self);
        // SAFETY: the recorder is live and was entered.
        check("leave a stream", unsafe {
            mf_recorder_leave(recorder.0.as_ptr())
        })
    }
}

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        // The failure on whose way out this is says more. SAFETY: as above.
        let _ = check("leave a stream", unsafe {
            mf_recorder_leave(self.0.0.as_ptr())
        });
    }
}

/// Says that these tensors have other values than before.
pub fn changed(tensors: &[&Tensor]) {
    let tensors = handles(tensors);
    // SAFETY: the handles are live for the duration of the call.
    unsafe { mf_changed(tensors.as_ptr(), tensors.len()) }
}
