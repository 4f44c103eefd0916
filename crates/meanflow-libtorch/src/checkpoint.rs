//! A node of the tape that calls back into Rust to compute its value again.

use std::ffi::{c_char, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;

use tch::Tensor;
use torch_sys::C_tensor;

use crate::call::{check, done};
use crate::{LibtorchError, recover};

/// What is computed again: a function of two inputs, called from whichever thread runs the backward pass.
pub type Body = Box<dyn Fn([Tensor; 2]) -> Tensor + Send>;

type Call = unsafe extern "C" fn(
    *const c_void,
    *mut C_tensor,
    *mut C_tensor,
    *mut C_tensor,
    *mut c_char,
    usize,
) -> bool;
type Release = unsafe extern "C" fn(*mut c_void);

unsafe extern "C" {
    fn mf_grad_enabled(enabled: *mut bool) -> *mut c_char;
    fn mf_assign(tensor: *mut C_tensor, value: *const C_tensor) -> *mut c_char;
    fn mf_checkpoint(
        out: *mut C_tensor,
        first: *const C_tensor,
        second: *const C_tensor,
        closure: *mut c_void,
        call: Call,
        release: Release,
    ) -> *mut c_char;
}

/// Whether operations are recorded on the tape.
pub fn grad_enabled() -> bool {
    let mut enabled = false;
    // SAFETY: `enabled` outlives the call.
    done(check("read a flag", unsafe {
        mf_grad_enabled(&raw mut enabled)
    }));
    enabled
}

/// `value`, which `body` has computed from `inputs` off the tape, on the tape: the backward pass calls `body` again and
/// differentiates that.
pub fn checkpoint(
    value: Tensor,
    [first, second]: [&Tensor; 2],
    body: Body,
) -> Result<Tensor, LibtorchError> {
    let mut out = value;
    let closure = Box::into_raw(Box::new(body)).cast();
    // SAFETY: the handles are live; the closure is given away and comes back once, to `release`.
    let message = unsafe {
        mf_checkpoint(
            out.as_mut_ptr(),
            first.as_ptr(),
            second.as_ptr(),
            closure,
            call,
            release,
        )
    };
    check("checkpoint a block", message)?;
    Ok(out)
}

/// Computes the value again; false, with the reason in `why`, where that panicked.
unsafe extern "C" fn call(
    closure: *const c_void,
    first: *mut C_tensor,
    second: *mut C_tensor,
    output: *mut C_tensor,
    why: *mut c_char,
    capacity: usize,
) -> bool {
    // SAFETY: `closure` is a `Body` until it is released, and the node that calls is its only user.
    let body = unsafe { &*closure.cast::<Body>() };
    // SAFETY: both are live handles; the clones are handles of their own.
    let inputs = unsafe { [first, second].map(|input| Tensor::clone_from_ptr(input)) };
    let computed = catch_unwind(AssertUnwindSafe(|| {
        recover("compute a block again", || {
            let value = body(inputs);
            // SAFETY: both handles are live.
            check("keep a value", unsafe { mf_assign(output, value.as_ptr()) })
        })
    }));
    let reason = match computed {
        Ok(Ok(())) => return true,
        Ok(Err(LibtorchError::Call { message, .. })) => message,
        Ok(Err(error)) => error.to_string(),
        Err(_) => "the panic hook has shown the reason".to_owned(),
    };
    let count = reason.len().min(capacity.saturating_sub(1));
    // SAFETY: `why` has `capacity` bytes, all of them zero.
    unsafe { ptr::copy_nonoverlapping(reason.as_ptr(), why.cast(), count) };
    false
}

unsafe extern "C" fn release(closure: *mut c_void) {
    // SAFETY: comes from `Box::into_raw` in `checkpoint`, once.
    drop(unsafe { Box::from_raw(closure.cast::<Body>()) });
}
