//! Where tensors on the CPU live, and how much memory a piece of work needs at its peak.

use std::ffi::c_char;
use std::fs;

use tch::Device;

use crate::LibtorchError;
use crate::call::{check, done};

unsafe extern "C" {
    fn mf_map_tensors() -> *mut c_char;
    fn mf_keep_memory() -> *mut c_char;
    fn mf_device_peak_reset(device: i64, bytes: *mut i64) -> *mut c_char;
    fn mf_device_peak(device: i64, bytes: *mut i64) -> *mut c_char;
}

/// Makes training on a CPU faster: from now on this process keeps all memory that is freed for what it asks for next, where the
/// C library would give large blocks back to the system and have their pages cleared.
///
/// The process stays as large as it has ever been. Only glibc can be told so; with another C library this does nothing.
pub fn keep() {
    // SAFETY: no memory is passed, and live memory is not touched.
    done(check("keep memory", unsafe { mf_keep_memory() }));
}

/// Makes [`peak`] exact and everything slower: from now on, in this process, every tensor is mapped on its own and given
/// back when freed, so that the holes of a fragmented heap do not count. Call it before the first tensor. It ends [`keep`], and,
/// like that, does nothing without glibc.
pub fn count_live_memory_only() {
    // SAFETY: no memory is passed, and live memory is not touched.
    done(check("map tensors", unsafe { mf_map_tensors() }));
}

/// Runs `work` and returns its result with the resident memory, in bytes, that it needed at its peak above what was held
/// before; none where the system does not tell (only Linux does).
///
/// It is the memory of the whole process, so other threads disturb it.
pub fn peak<T>(work: impl FnOnce() -> T) -> (T, Option<u64>) {
    // Resets the peak: proc(5), clear_refs.
    let before = fs::write("/proc/self/clear_refs", "5")
        .ok()
        .and_then(|()| resident("VmRSS:"));
    let result = work();
    let after = resident("VmHWM:");
    (
        result,
        before
            .zip(after)
            .map(|(before, after)| after.saturating_sub(before)),
    )
}

/// As [`peak`], of a device: on a CUDA device the bytes that tensors took at their peak above what they took before, which
/// PyTorch calls `max_memory_allocated`.
///
/// # Errors
/// If libtorch refuses.
pub fn peak_on<T>(
    device: Device,
    work: impl FnOnce() -> T,
) -> Result<(T, Option<u64>), LibtorchError> {
    let Device::Cuda(index) = device else {
        return Ok(peak(work));
    };
    let (mut before, mut most) = (0, 0);
    // SAFETY: `before` and `most` outlive their calls.
    check("reset the peak of memory", unsafe {
        mf_device_peak_reset(index as i64, &raw mut before)
    })?;
    let result = work();
    check("read the peak of memory", unsafe {
        mf_device_peak(index as i64, &raw mut most)
    })?;
    Ok((result, u64::try_from(most - before).ok()))
}

/// A size of this process's status in bytes.
fn resident(key: &str) -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(key))?;
    let kibibytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kibibytes * 1024)
}
