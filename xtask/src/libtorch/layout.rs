//! Which files of an archive are kept, and where they go below the installation.

use super::pins::{self, Device};
use super::platform::Platform;

/// A linker script: what asks for `libtorch` is given its CPU part. The wheel's own `libtorch.so` asks for the CUDA part.
pub(crate) const CPU_LIBTORCH: &str = "INPUT(libtorch_cpu.so)\n";

/// A wheel's entry: headers, and the libraries of PyTorch and NVIDIA side by side in `lib`,
/// the one folder that all of them search (`$ORIGIN`).
pub(crate) fn from_wheel(platform: Platform, device: Device, name: &str) -> Option<String> {
    if name.starts_with("torch/include/") {
        return name.strip_prefix("torch/").map(str::to_owned);
    }
    let library = name
        .strip_prefix("torch/lib/")
        .or_else(|| nvidia_library(name))?;
    let kept = match device {
        Device::Cpu => pins::cpu_libraries(platform)
            .iter()
            .any(|kept| kept == library),
        Device::Cuda => is_library(library) && !library.starts_with("libtorch_python"),
    };
    kept.then(|| format!("lib/{library}"))
}

/// An entry of the official archive: headers, libraries, the version.
pub(crate) fn from_archive(name: &str) -> Option<String> {
    let inner = name.strip_prefix("libtorch/")?;
    let kept = inner == "build-version"
        || inner.starts_with("include/")
        || inner.strip_prefix("lib/").is_some_and(is_library);
    kept.then(|| inner.to_owned())
}

/// `nvidia/cu13/lib/libcudart.so.13` → `libcudart.so.13`.
fn nvidia_library(name: &str) -> Option<&str> {
    let (_, library) = name.strip_prefix("nvidia/")?.split_once("/lib/")?;
    Some(library)
}

/// `libx.so` or `libx.so.1.2`, directly in its folder.
fn is_library(name: &str) -> bool {
    !name.contains('/') && (name.ends_with(".so") || name.contains(".so."))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every entry goes where it is said to.
    fn places(place: impl Fn(&str) -> Option<String>, entries: &[(&str, Option<&str>)]) {
        for (name, expected) in entries {
            assert_eq!(place(name).as_deref(), *expected, "{name}");
        }
    }

    #[test]
    fn the_cpu_keeps_headers_and_five_libraries() {
        places(
            |name| from_wheel(Platform::LinuxX86_64, Device::Cpu, name),
            &[
                ("torch/include/ATen/ATen.h", Some("include/ATen/ATen.h")),
                ("torch/lib/libc10.so", Some("lib/libc10.so")),
                ("nvidia/cu13/lib/libcupti.so.13", Some("lib/libcupti.so.13")),
                ("torch/lib/libtorch.so", None),
                ("torch/lib/libtorch_cuda.so", None),
                ("torch/version.py", None),
                ("nvidia/cu13/lib/libnvrtc.so.13", None),
                ("nvidia/cu13/include/cuda.h", None),
                ("torch/lib/sub/libc10.so", None),
            ],
        );
    }

    #[test]
    fn cuda_keeps_every_library_but_pythons() {
        places(
            |name| from_wheel(Platform::LinuxX86_64, Device::Cuda, name),
            &[
                ("torch/lib/libtorch.so", Some("lib/libtorch.so")),
                ("nvidia/cudnn/lib/libcudnn.so.9", Some("lib/libcudnn.so.9")),
                ("torch/lib/libtorch_python.so", None),
                ("torch/lib/libshm/err.h", None),
                ("nvidia/nvshmem/lib/libnvshmem.a", None),
            ],
        );
    }

    #[test]
    fn the_archive_loses_its_outer_folder() {
        let gomp = "lib/libgomp-98b21ff3.so.1";
        places(
            from_archive,
            &[
                ("libtorch/lib/libgomp-98b21ff3.so.1", Some(gomp)),
                ("libtorch/build-version", Some("build-version")),
                ("libtorch/share/cmake/x.cmake", None),
                ("other/lib/libc10.so", None),
            ],
        );
    }
}
