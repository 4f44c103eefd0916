//! Bytes for tensors, transfers to a device, and a watch over operations that wait for one.

use std::ffi::c_char;
use std::io::{self, Read};

use tch::Tensor;
use torch_sys::C_tensor;

use crate::LibtorchError;
use crate::call::{check, done};

unsafe extern "C" {
    fn mf_send_pinned(out: *mut C_tensor, tensor: *const C_tensor, device: i64) -> *mut c_char;
    fn mf_put_bytes(
        tensor: *mut C_tensor,
        offset: usize,
        bytes: *const u8,
        count: usize,
    ) -> *mut c_char;
    fn mf_count_bytes(tensor: *const C_tensor, count: *mut usize) -> *mut c_char;
    fn mf_watch(watch: *mut u64) -> *mut c_char;
    fn mf_unwatch(watch: u64) -> *mut c_char;
    fn mf_waited(count: *mut u64) -> *mut c_char;
}

/// As many bytes are on their way between a tensor and a file at a time.
const PIECE: usize = 1 << 20;

/// A tensor of the host on the CUDA device of this number, copied through pinned memory without waiting.
pub(crate) fn send_pinned(tensor: &Tensor, device: usize) -> Result<Tensor, LibtorchError> {
    let mut out = Tensor::new();
    // SAFETY: both handles are live for the duration of the call; libtorch keeps the pinned copy until it was read.
    let message = unsafe { mf_send_pinned(out.as_mut_ptr(), tensor.as_ptr(), device as i64) };
    check("send a tensor to the device", message)?;
    Ok(out)
}

/// Reads all numbers of a contiguous tensor of the host, as the bytes that they are in its memory.
///
/// The bytes go through a buffer: a slice of the tensor's own memory could be changed behind its back by any other handle.
///
/// # Errors
/// If the tensor is not contiguous or not of the host; those of `from` inside, after which the tensor is changed in part.
pub fn read_into(tensor: &Tensor, from: &mut impl Read) -> Result<io::Result<()>, LibtorchError> {
    let mut handle = tensor.shallow_clone();
    let mut buffer = vec![0; bytes(tensor)?.min(PIECE)];
    for (offset, count) in pieces(bytes(tensor)?) {
        let piece = &mut buffer[..count];
        if let Err(error) = from.read_exact(piece) {
            return Ok(Err(error));
        }
        // SAFETY: the handle is live, and `piece` has `count` bytes.
        check("write the memory of a tensor", unsafe {
            mf_put_bytes(handle.as_mut_ptr(), offset, piece.as_ptr(), count)
        })?;
    }
    Ok(Ok(()))
}

fn bytes(tensor: &Tensor) -> Result<usize, LibtorchError> {
    let mut count = 0;
    // SAFETY: the handle is live and `count` outlives the call.
    check("count the bytes of a tensor", unsafe {
        mf_count_bytes(tensor.as_ptr(), &raw mut count)
    })?;
    Ok(count)
}

/// Where each piece of so many bytes begins, and how long it is.
fn pieces(bytes: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..bytes)
        .step_by(PIECE)
        .map(move |offset| (offset, PIECE.min(bytes - offset)))
}

/// Runs `work` and counts the operations that answered with a number on the host.
pub(crate) fn count_host_operations<T>(
    work: impl FnOnce() -> T,
) -> Result<(T, u64), LibtorchError> {
    struct Watch(u64);
    impl Drop for Watch {
        fn drop(&mut self) {
            // SAFETY: the watch was begun once and ends once; nothing can be done where libtorch refuses.
            let _ = check("end a watch", unsafe { mf_unwatch(self.0) });
        }
    }
    let mut watch = 0;
    // SAFETY: `watch` outlives the call.
    check("watch operations", unsafe { mf_watch(&raw mut watch) })?;
    let _watch = Watch(watch);
    let before = waited();
    let result = work();
    Ok((result, waited() - before))
}

fn waited() -> u64 {
    let mut count = 0;
    // SAFETY: `count` outlives the call.
    done(check("count operations", unsafe {
        mf_waited(&raw mut count)
    }));
    count
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind};

    /// Several pieces and a rest, in a type of two bytes.
    #[test]
    fn bytes_come_back() {
        let numbers = Tensor::arange(1_300_001, (Kind::Int64, Device::Cpu)).to_kind(Kind::Half);
        let mut file = vec![0; 2 * numbers.numel()];
        numbers.copy_data_u8(&mut file, numbers.numel());
        let back = numbers.zeros_like();
        read_into(&back, &mut file.as_slice()).unwrap().unwrap();
        assert_eq!(back, numbers);
        let short = read_into(&back, &mut &file[1..]).unwrap().unwrap_err();
        assert_eq!(short.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn memory_that_is_not_side_by_side_is_refused() {
        let turned = Tensor::zeros([3, 2], (Kind::Float, Device::Cpu)).tr();
        let refused = read_into(&turned, &mut &[0_u8; 24][..]).unwrap_err();
        assert!(refused.to_string().contains("contiguous"), "{refused}");
        assert!(read_into(&Tensor::new(), &mut &[0_u8; 4][..]).is_err());
    }
}
