//! Which libtorch is loaded, and that it is the one this crate was compiled against.

use std::ffi::c_char;

use crate::LibtorchError;
use crate::call::check;

unsafe extern "C" {
    fn mf_loaded_version(version: *mut u64) -> *mut c_char;
}

/// The libtorch that tch binds, and whose classes are driven by their mangled names here.
const EXPECTED: [u8; 2] = [2, 11];

/// Refuses any other libtorch than 2.11: what is driven by mangled names and sizes would be memory of something else.
///
/// # Errors
/// With the version that is loaded.
pub(crate) fn require() -> Result<(), LibtorchError> {
    refuse_other(loaded()?)
}

/// The version of the libtorch that is loaded, such as `2.11.0`.
///
/// # Errors
/// If libtorch refuses to say it.
pub fn loaded_version() -> Result<String, LibtorchError> {
    Ok(described(loaded()?))
}

fn loaded() -> Result<u64, LibtorchError> {
    let mut version = 0;
    // SAFETY: `version` outlives the call.
    check("say its version", unsafe {
        mf_loaded_version(&raw mut version)
    })?;
    Ok(version)
}

fn described(version: u64) -> String {
    let [major, minor, patch, ..] = version.to_be_bytes();
    match version {
        0 => "one that does not say its version".to_owned(),
        _ => format!("{major}.{minor}.{patch}"),
    }
}

fn refuse_other(version: u64) -> Result<(), LibtorchError> {
    let [major, minor, ..] = version.to_be_bytes();
    if [major, minor] == EXPECTED {
        return Ok(());
    }
    Err(LibtorchError::Version {
        expected: format!("{}.{}", EXPECTED[0], EXPECTED[1]),
        got: described(version),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_libtorch_of_the_build_is_taken_and_no_other() {
        require().unwrap();
        refuse_other(0x020b_0300_0000_0000).unwrap();
        let other = refuse_other(0x020a_0100_0000_0000).unwrap_err();
        assert!(other.to_string().contains("2.10.1"), "{other}");
        assert!(
            refuse_other(0)
                .unwrap_err()
                .to_string()
                .contains("does not say")
        );
    }
}
