//! A node of the tape that calls back into Rust to compute its value again.

use std::ffi::{c_char, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};

use tch::Tensor;
use torch_sys::C_tensor;

use crate::LibtorchError;
use crate::call::check;

/// What is computed again: a function of two inputs, called from whichever thread runs the backward pass.
pub type Body = Box<dyn Fn([Tensor; 2]) -> Tensor + Send>;

type Call =
    unsafe extern "C" fn(*const c_void, *mut C_tensor, *mut C_tensor, *mut C_tensor) -> bool;
type Release = unsafe extern "C" fn(*mut c_void);

unsafe extern "C" {
    fn mf_grad_enabled() -> bool;
    fn mf_assign(tensor: *mut C_tensor, value: *const C_tensor);
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
    // SAFETY: reads a flag of this thread.
    unsafe { mf_grad_enabled() }
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

/// Computes the value again; false where that panicked, whose message the panic hook has shown.
unsafe extern "C" fn call(
    closure: *const c_void,
    first: *mut C_tensor,
    second: *mut C_tensor,
    output: *mut C_tensor,
) -> bool {
    // SAFETY: `closure` is a `Body` until it is released, and the node that calls is its only user.
    let body = unsafe { &*closure.cast::<Body>() };
    // SAFETY: both are live handles; the clones are handles of their own.
    let inputs = unsafe { [first, second].map(|input| Tensor::clone_from_ptr(input)) };
    match catch_unwind(AssertUnwindSafe(|| body(inputs))) {
        Ok(value) => {
            // SAFETY: both handles are live.
            unsafe { mf_assign(output, value.as_ptr()) };
            true
        }
        Err(_) => false,
    }
}

unsafe extern "C" fn release(closure: *mut c_void) {
    // SAFETY: comes from `Box::into_raw` in `checkpoint`, once.
    drop(unsafe { Box::from_raw(closure.cast::<Body>()) });
}
