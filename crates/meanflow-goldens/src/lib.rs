//! Golden files: what official implementations computed, against what we compute from the same weights and draws.
//!
//! A golden is `NAME.safetensors` with parameters, inputs and outputs, and `NAME.json` beside it with the kind and the
//! configuration; those of the repository lie in `files`. [`check`] runs meanflow-torch and meanflow-eval on the inputs, in
//! any type, on any device and by any [`JvpMethod`], and says for every output how far off it is. [`device_check`] does it
//! for a device, with more that needs no file.
//!
//! ```
//! use std::path::Path;
//!
//! use meanflow_goldens::{Setting, check};
//! use meanflow_torch::{Device, JvpMethod, Kind};
//!
//! let setting = Setting { device: Device::Cpu, kind: Kind::Double, jvp: JvpMethod::Dual };
//! let report = check(Path::new("files/sampling_a.safetensors"), &setting)?;
//! assert!(report.passes(), "{report}");
//! # Ok::<(), meanflow_torch::TorchError>(())
//! ```

mod compare;
pub mod device_check;
mod file;
mod kinds;

use std::path::Path;

use meanflow_torch::{JvpMethod, TorchError};
use tch::{Device, Kind};

pub use compare::{Comparison, Report, Tolerance};
use file::{Computed, GoldenFile};

/// How to run our side.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// The device that computes.
    pub device: Device,
    /// The dtype of the computation: [`Kind::Float`] or [`Kind::Double`].
    pub kind: Kind,
    /// The method by which `du/dt` is computed.
    pub jvp: JvpMethod,
}

/// Computes everything that the golden `path` (`….safetensors`) holds results of, and compares.
///
/// # Errors
/// If the file or its `.json` cannot be read, is of no known kind, or does not hold what its kind needs.
pub fn check(path: &Path, setting: &Setting) -> Result<Report, TorchError> {
    kinds::check(&GoldenFile::read(path)?, setting)
}
