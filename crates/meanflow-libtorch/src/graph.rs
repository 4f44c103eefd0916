//! CUDA graphs: what is done on a stream beside the default one, and recorded there.

use std::ffi::c_char;
use std::ptr::NonNull;

use tch::Tensor;
use torch_sys::C_tensor;

use crate::call::{check, done, handles};
use crate::{LibtorchError, version};

/// The C++ side's recorder, behind a pointer.
#[repr(C)]
struct Opaque {
    _private: [u8; 0],
}

unsafe extern "C" {
    fn mf_recorder_new(out: *mut *mut Opaque, device: i64) -> *mut c_char;
    fn mf_recorder_free(recorder: *mut Opaque) -> *mut c_char;
    fn mf_recorder_enter(recorder: *mut Opaque) -> *mut c_char;
    fn mf_recorder_leave(recorder: *mut Opaque) -> *mut c_char;
    fn mf_recorder_begin(recorder: *mut Opaque) -> *mut c_char;
    fn mf_recorder_end(recorder: *mut Opaque) -> *mut c_char;
    fn mf_recorder_forget(recorder: *mut Opaque) -> *mut c_char;
    fn mf_recorder_replay(recorder: *mut Opaque) -> *mut c_char;
    fn mf_changed(tensors: *const *const C_tensor, count: usize) -> *mut c_char;
}

/// What records work and does it again: a CUDA device's graphs, or something that fails in their place in a test.
pub(crate) trait Record {
    /// From here to [`leave`](Self::leave) work happens on a stream of its own; everything before it is done.
    fn enter(&self) -> Result<(), LibtorchError>;
    /// Goes back to the stream of before, once everything on the own one is done.
    fn leave(&self) -> Result<(), LibtorchError>;
    /// From here to [`end`](Self::end) nothing happens: it is recorded.
    fn begin(&self) -> Result<(), LibtorchError>;
    /// Ends the recording.
    fn end(&self) -> Result<(), LibtorchError>;
    /// Forgets what was recorded.
    fn forget(&self) -> Result<(), LibtorchError>;
    /// Does what was recorded last.
    fn replay(&self) -> Result<(), LibtorchError>;
}

/// Does `work` on the recorder's stream.
pub(crate) fn beside<T, E: From<LibtorchError>>(
    recorder: &impl Record,
    work: impl FnOnce() -> Result<T, E>,
) -> Result<T, E> {
    recorder.enter()?;
    let entered = OnTheWayOut::new(|| recorder.leave());
    let result = work()?;
    entered.now()?;
    Ok(result)
}

/// Records `work`, of which nothing happens before a replay. Also where the work fails or panics, the recording ends, and
/// what there is of it is forgotten.
pub(crate) fn record<T, E: From<LibtorchError>>(
    recorder: &impl Record,
    work: impl FnOnce() -> Result<T, E>,
) -> Result<T, E> {
    beside(recorder, || {
        recorder.begin()?;
        let begun = OnTheWayOut::new(|| {
            let ended = recorder.end();
            ended.and(recorder.forget())
        });
        let result = work()?;
        begun.disarm();
        if let Err(error) = recorder.end() {
            // Why it ended says more than whether the rest could be forgotten.
            let _ = recorder.forget();
            return Err(error.into());
        }
        Ok(result)
    })
}

/// Does something once: when told to, or on the way out of a failure or a panic, which says more than its own result.
struct OnTheWayOut<F: FnOnce() -> Result<(), LibtorchError>>(Option<F>);

impl<F: FnOnce() -> Result<(), LibtorchError>> OnTheWayOut<F> {
    fn new(action: F) -> Self {
        Self(Some(action))
    }

    fn now(mut self) -> Result<(), LibtorchError> {
        self.0.take().map_or(Ok(()), |action| action())
    }

    fn disarm(mut self) {
        self.0 = None;
    }
}

impl<F: FnOnce() -> Result<(), LibtorchError>> Drop for OnTheWayOut<F> {
    fn drop(&mut self) {
        let _ = self.0.take().map(|action| action());
    }
}

/// A stream of a CUDA device beside its default one, and the work that was recorded on it.
#[derive(Debug)]
pub(crate) struct Recorder(NonNull<Opaque>);

impl Recorder {
    /// One that has recorded nothing.
    pub(crate) fn new(device: usize) -> Result<Self, LibtorchError> {
        version::require()?;
        let mut out = std::ptr::null_mut();
        // SAFETY: `out` outlives the call.
        check("make a stream", unsafe {
            mf_recorder_new(&raw mut out, device as i64)
        })?;
        Ok(Self(
            NonNull::new(out).expect("the call gave a recorder or a message"),
        ))
    }
}

impl Record for Recorder {
    fn enter(&self) -> Result<(), LibtorchError> {
        // SAFETY: the recorder is live, here and below.
        check("enter a stream", unsafe {
            mf_recorder_enter(self.0.as_ptr())
        })
    }

    fn leave(&self) -> Result<(), LibtorchError> {
        // SAFETY: as above.
        check("leave a stream", unsafe {
            mf_recorder_leave(self.0.as_ptr())
        })
    }

    fn begin(&self) -> Result<(), LibtorchError> {
        // SAFETY: as above.
        check("begin a recording", unsafe {
            mf_recorder_begin(self.0.as_ptr())
        })
    }

    fn end(&self) -> Result<(), LibtorchError> {
        // SAFETY: as above.
        check("end a recording", unsafe {
            mf_recorder_end(self.0.as_ptr())
        })
    }

    fn forget(&self) -> Result<(), LibtorchError> {
        // SAFETY: as above.
        check("forget a recording", unsafe {
            mf_recorder_forget(self.0.as_ptr())
        })
    }

    fn replay(&self) -> Result<(), LibtorchError> {
        // SAFETY: as above; one that has recorded nothing refuses.
        check("replay", unsafe { mf_recorder_replay(self.0.as_ptr()) })
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        // SAFETY: made once by the C++ side, freed once; nothing can be done where that fails.
        let _ = check("free a stream", unsafe {
            mf_recorder_free(self.0.as_ptr())
        });
    }
}

/// Says that these tensors have other values than before.
///
/// # Panics
/// If one of them has no storage.
pub fn changed(tensors: &[&Tensor]) {
    let tensors = handles(tensors);
    // SAFETY: the handles are live for the duration of the call.
    done(check("note a change", unsafe {
        mf_changed(tensors.as_ptr(), tensors.len())
    }));
}
