//! Where to compute.

use std::ffi::{CString, c_char};
use std::path::{Path, PathBuf};

use tch::{Cuda, Device};

use crate::LibtorchError;
use crate::call::check;

unsafe extern "C" {
    fn mf_set_tf32(allowed: bool);
    fn mf_tf32() -> bool;
    fn mf_load_library(path: *const c_char) -> *mut c_char;
}

/// The device of a name: `cpu`, `cuda`, `cuda:1`, or `auto` for CUDA where there is one.
///
/// A binary that was linked with the CPU part of libtorch alone uses CUDA all the same where the full libraries are
/// found: in the folder that `MEANFLOW_TORCH_LIB` names, beside the libtorch it was built with, or on the system's path.
/// They have to be loaded before libtorch is first asked about CUDA, so call this before anything else.
///
/// # Errors
/// If the name is none of these or the device is not there.
pub fn open(name: &str) -> Result<Device, LibtorchError> {
    let refused = |problem: String| LibtorchError::Device {
        device: name.to_owned(),
        problem,
    };
    let index = match name {
        "cpu" => return Ok(Device::Cpu),
        "auto" => {
            return Ok(if load_cuda().is_ok() {
                Device::cuda_if_available()
            } else {
                Device::Cpu
            });
        }
        "cuda" => 0,
        _ => name
            .strip_prefix("cuda:")
            .and_then(|index| index.parse().ok())
            .ok_or_else(|| refused("expected cpu, cuda, cuda:N or auto".into()))?,
    };
    load_cuda().map_err(|reasons| {
        refused(format!(
            "the CUDA part of libtorch could not be loaded:\n{reasons}"
        ))
    })?;
    let count = Cuda::device_count();
    if index as i64 >= count {
        return Err(refused(format!("libtorch sees {count} CUDA devices")));
    }
    Ok(Device::Cuda(index))
}

/// Whether matrix products and convolutions of f32 on a CUDA device may round their factors to TF32's 10 bits, which its
/// tensor cores multiply several times faster. It holds for the whole process, and for no other device.
pub fn allow_tf32(allowed: bool) {
    // SAFETY: sets flags of libtorch's context.
    unsafe { mf_set_tf32(allowed) }
}

/// Whether [`allow_tf32`] allowed it, for products and convolutions alike.
pub fn tf32_allowed() -> bool {
    // SAFETY: reads flags of libtorch's context.
    unsafe { mf_tf32() }
}

const CUDA_LIBRARY: &str = "libtorch_cuda.so";

/// Loads libtorch's CUDA part from the first place that has it.
fn load_cuda() -> Result<(), String> {
    let mut places: Vec<PathBuf> = std::env::var_os("MEANFLOW_TORCH_LIB")
        .map(PathBuf::from)
        .into_iter()
        .collect();
    places.push(PathBuf::from(env!("MEANFLOW_LIBTORCH_LIB")));
    let mut candidates: Vec<PathBuf> = places
        .iter()
        .map(|place| place.join(CUDA_LIBRARY))
        .collect();
    candidates.push(PathBuf::from(CUDA_LIBRARY));
    let mut reasons = Vec::new();
    for candidate in candidates {
        match load_library(&candidate) {
            Ok(()) => return Ok(()),
            Err(error) => reasons.push(format!("  {error}")),
        }
    }
    Err(reasons.join("\n"))
}

/// Loads a shared library with global symbols.
fn load_library(path: &Path) -> Result<(), LibtorchError> {
    let operation = "load library";
    let name = CString::new(path.as_os_str().as_encoded_bytes())
        .map_err(|error| LibtorchError::call(operation, error))?;
    // SAFETY: `name` is NUL-terminated and outlives the call.
    check(operation, unsafe { mf_load_library(name.as_ptr()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tf32_is_what_was_set_last() {
        for allowed in [true, false, true, false] {
            allow_tf32(allowed);
            assert_eq!(tf32_allowed(), allowed);
        }
    }
}
