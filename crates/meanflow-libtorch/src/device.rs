//! Where to compute.

use std::env;
use std::ffi::{CString, c_char};
use std::path::{Path, PathBuf};

use tch::{Cuda, Device};

use crate::call::{check, done};
use crate::{LibtorchError, World, version};

unsafe extern "C" {
    fn mf_set_tf32(allowed: bool) -> *mut c_char;
    fn mf_tf32(products: *mut bool, convolutions: *mut bool) -> *mut c_char;
    fn mf_cuda_init() -> *mut c_char;
    fn mf_load_library(path: *const c_char) -> *mut c_char;
}

/// A device, and what a user who did not choose it should know.
#[derive(Clone, Debug, PartialEq)]
pub struct Opened {
    /// Where to compute.
    pub device: Device,
    /// For `auto`: what was taken, and why not CUDA where its libraries are there or were named. None where that is plain.
    pub note: Option<String>,
}

/// The device of a name: `cpu`, `cuda`, `cuda:1`, or `auto` for CUDA where there is one, of several processes the device of
/// each one's local rank ([`World`]).
///
/// A binary that was linked with the CPU part of libtorch alone uses CUDA all the same where the full libraries are
/// found: in the folder that `MEANFLOW_TORCH_LIB` names, beside the libtorch it was built with, or on the system's path.
/// They have to be loaded before libtorch is first asked about CUDA, so call this before anything else.
///
/// TF32 is off afterwards; [`allow_tf32`] allows it.
///
/// # Errors
/// If the name is none of these, if the device is not there, with libtorch's reason, or if another libtorch is loaded than
/// this program was built for.
pub fn open(name: &str) -> Result<Device, LibtorchError> {
    Ok(open_explained(name)?.device)
}

/// As [`open`], with what there is to say about the choice of `auto`.
///
/// # Errors
/// As [`open`].
pub fn open_explained(name: &str) -> Result<Opened, LibtorchError> {
    version::require()?;
    let opened = match name {
        "cpu" => plainly(Device::Cpu),
        "auto" => automatic()?,
        "cuda" => plainly(cuda(name, 0)?),
        _ => {
            let index = name
                .strip_prefix("cuda:")
                .and_then(|index| index.parse().ok());
            let index =
                index.ok_or_else(|| refused(name, "expected cpu, cuda, cuda:N or auto".into()))?;
            plainly(cuda(name, index)?)
        }
    };
    // libtorch starts with TF32 in convolutions.
    allow_tf32(false);
    Ok(opened)
}

fn plainly(device: Device) -> Opened {
    Opened { device, note: None }
}

fn refused(device: &str, problem: String) -> LibtorchError {
    LibtorchError::Device {
        device: device.to_owned(),
        problem,
    }
}

/// CUDA where there is a device, that of the local rank; else the CPU, and why, where somebody would expect CUDA.
fn automatic() -> Result<Opened, LibtorchError> {
    let index = World::from_env()?.local_rank;
    let problem = match load_cuda() {
        Ok(()) if Cuda::device_count() > 0 => {
            let name = format!("cuda:{index}");
            let note = match index {
                0 => "computing on cuda:0, the first CUDA device".to_owned(),
                _ => format!("computing on {name}, which is this process's by its local rank"),
            };
            return Ok(Opened {
                device: cuda(&name, index)?,
                note: Some(note),
            });
        }
        Ok(()) => none_there(),
        Err(reasons) if env::var_os(FOLDER).is_some() => reasons,
        Err(_) => return Ok(plainly(Device::Cpu)),
    };
    Ok(Opened {
        device: Device::Cpu,
        note: Some(format!("computing on the CPU: {problem}")),
    })
}

fn cuda(name: &str, index: usize) -> Result<Device, LibtorchError> {
    require_cuda(name)?;
    match Cuda::device_count() {
        0 => Err(refused(name, none_there())),
        count if index as i64 >= count => {
            Err(refused(name, format!("libtorch sees {count} CUDA devices")))
        }
        _ => Ok(Device::Cuda(index)),
    }
}

/// Loads libtorch's CUDA part, which a device of this name needs.
pub(crate) fn require_cuda(name: &str) -> Result<(), LibtorchError> {
    load_cuda().map_err(|reasons| refused(name, reasons))
}

/// What is said where CUDA's libraries are loaded and there is no device: libtorch's own reason, a driver that is missing or
/// too old.
fn none_there() -> String {
    // SAFETY: no memory is passed.
    let reason = match check("use CUDA", unsafe { mf_cuda_init() }) {
        Ok(()) => "it gives no reason".to_owned(),
        Err(error) => error.to_string(),
    };
    let hidden = match env::var("CUDA_VISIBLE_DEVICES") {
        Ok(devices) => format!("; CUDA_VISIBLE_DEVICES is \"{devices}\""),
        Err(_) => String::new(),
    };
    format!("libtorch sees 0 CUDA devices: {reason}{hidden}")
}

/// Whether matrix products and convolutions of f32 on a CUDA device may round their factors to TF32's 10 bits, which its
/// tensor cores multiply several times faster. It holds for the whole process, and for no other device.
///
/// # Panics
/// If something else in this process has set libtorch's newer switches for the same.
pub fn allow_tf32(allowed: bool) {
    // SAFETY: sets flags of libtorch's context.
    done(check("set TF32", unsafe { mf_set_tf32(allowed) }));
}

/// What may round its factors to TF32.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Tf32 {
    /// Matrix products, by cuBLAS.
    pub products: bool,
    /// Convolutions, by cuDNN.
    pub convolutions: bool,
}

/// What [`allow_tf32`] allowed.
///
/// # Panics
/// As [`allow_tf32`].
pub fn tf32() -> Tf32 {
    let [mut products, mut convolutions] = [false; 2];
    // SAFETY: both outlive the call.
    done(check("read TF32", unsafe {
        mf_tf32(&raw mut products, &raw mut convolutions)
    }));
    Tf32 {
        products,
        convolutions,
    }
}

const CUDA_LIBRARY: &str = "libtorch_cuda.so";

/// The variable that names the folder of full libraries.
const FOLDER: &str = "MEANFLOW_TORCH_LIB";

/// Loads libtorch's CUDA part from the first place that has it; the reason of each place where none has.
fn load_cuda() -> Result<(), String> {
    let mut places: Vec<PathBuf> = env::var_os(FOLDER).map(PathBuf::from).into_iter().collect();
    places.push(PathBuf::from(env!("MEANFLOW_LIBTORCH_LIB")));
    let mut candidates: Vec<PathBuf> = places
        .iter()
        .map(|place| place.join(CUDA_LIBRARY))
        .collect();
    candidates.push(PathBuf::from(CUDA_LIBRARY));
    let mut reasons = vec!["the CUDA part of libtorch could not be loaded:".to_owned()];
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

    /// One test, since the flags are the whole process's.
    #[test]
    fn tf32_is_off_once_a_device_is_open_and_then_what_was_set_last() {
        let both = |allowed| Tf32 {
            products: allowed,
            convolutions: allowed,
        };
        assert!(tf32().convolutions, "as libtorch starts");
        open("cpu").unwrap();
        assert_eq!(tf32(), both(false));
        for allowed in [true, false, true] {
            allow_tf32(allowed);
            assert_eq!(tf32(), both(allowed));
        }
    }

    #[test]
    fn a_name_of_no_device_is_refused() {
        for name in ["gpu", "cuda:", "cuda:x", "", "CPU"] {
            let error = open(name).unwrap_err().to_string();
            assert!(
                error.contains("expected cpu, cuda, cuda:N or auto"),
                "{error}"
            );
        }
    }

    #[test]
    fn a_library_that_is_not_there_gives_the_loader_s_reason() {
        let error = load_library(Path::new("/nowhere/libtorch_cuda.so")).unwrap_err();
        assert!(error.to_string().contains("No such file"), "{error}");
    }

    #[test]
    fn without_a_device_cuda_says_why() {
        // A device that is there is what the tests of CUDA are for.
        let Err(error) = open("cuda") else { return };
        let text = error.to_string();
        assert!(text.starts_with("device cuda: "), "{text}");
        let reasons = [
            "could not be loaded",
            "sees 0 CUDA devices: libtorch could not use CUDA",
        ];
        assert!(reasons.iter().any(|reason| text.contains(reason)), "{text}");
    }
}
