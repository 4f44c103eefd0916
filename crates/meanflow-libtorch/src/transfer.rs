//! Transfers to a device, and a watch over operations that wait for one.

use std::ffi::c_char;

use tch::Tensor;
use torch_sys::C_tensor;

use crate::LibtorchError;
use crate::call::check;

unsafe extern "C" {
    fn mf_send_pinned(out: *mut C_tensor, tensor: *const C_tensor, device: i64) -> *mut c_char;
    fn mf_bytes(tensor: *mut C_tensor, data: *mut *mut u8, count: *mut usize) -> *mut c_char;
    fn mf_watch(watch: *mut u64) -> *mut c_char;
    fn mf_unwatch(watch: u64);
    fn mf_waited() -> u64;
}

/// A tensor of the host on the CUDA device of this number, copied through pinned memory without waiting.
pub(crate) fn send_pinned(tensor: &Tensor, device: usize) -> Result<Tensor, LibtorchError> {
    let mut out = Tensor::new();
    // SAFETY: both handles are live for the duration of the call; libtorch keeps the pinned copy until it was read.
    let message = unsafe { mf_send_pinned(out.as_mut_ptr(), tensor.as_ptr(), device as i64) };
    check("send a tensor to the device", message)?;
    Ok(out)
}

/// Lets `write` write all numbers of a contiguous tensor of the host, as the bytes that they are in its memory.
pub fn write_bytes<T>(
    tensor: &Tensor,
    write: impl FnOnce(&mut [u8]) -> T,
) -> Result<T, LibtorchError> {
    let mut handle = tensor.shallow_clone();
    let (mut data, mut count) = (std::ptr::null_mut(), 0);
    // SAFETY: the handle is live and the results outlive the call.
    let message = unsafe { mf_bytes(handle.as_mut_ptr(), &raw mut data, &raw mut count) };
    check("write the memory of a tensor", message)?;
    if data.is_null() {
        return Ok(write(&mut []));
    }
    // SAFETY: libtorch has allocated `count` bytes there, which `handle` keeps alive and which are numbers whatever they
    // hold. No other slice of them exists: this is the only function that makes one, and `write` is not given the tensor.
    Ok(write(unsafe {
        std::slice::from_raw_parts_mut(data, count)
    }))
}

/// Runs `work` and counts the operations that answered with a number on the host.
pub(crate) fn count_host_operations<T>(
    work: impl FnOnce() -> T,
) -> Result<(T, u64), LibtorchError> {
    struct Watch(u64);
    impl Drop for Watch {
        fn drop(&mut self) {
            // SAFETY: the watch was begun once and ends once.
            unsafe { mf_unwatch(self.0) }
        }
    }
    let mut watch = 0;
    // SAFETY: `watch` outlives the call.
    check("watch operations", unsafe { mf_watch(&raw mut watch) })?;
    let _watch = Watch(watch);
    // SAFETY: reads a number of this thread.
    let before = unsafe { mf_waited() };
    let result = work();
    // SAFETY: as above.
    Ok((result, unsafe { mf_waited() } - before))
}
