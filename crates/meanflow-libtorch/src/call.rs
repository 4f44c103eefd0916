//! How a call to the C++ side ends, and how lists of tensors go over.

use std::ffi::{CStr, c_char};

use tch::Tensor;
use torch_sys::C_tensor;

use crate::LibtorchError;

unsafe extern "C" {
    fn mf_free(message: *mut c_char);
}

/// Takes the message of a call, if there is one, and frees it.
pub(crate) fn check(operation: &'static str, message: *mut c_char) -> Result<(), LibtorchError> {
    if message.is_null() {
        return Ok(());
    }
    // SAFETY: a NUL-terminated string that the C++ side gives away; it is freed once, here.
    let text = unsafe {
        let text = CStr::from_ptr(message).to_string_lossy().into_owned();
        mf_free(message);
        text
    };
    Err(LibtorchError::call(operation, text))
}

pub(crate) fn handles(tensors: &[&Tensor]) -> Vec<*const C_tensor> {
    tensors.iter().map(|tensor| tensor.as_ptr()).collect()
}
