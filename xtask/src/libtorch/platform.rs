//! The machines that libtorch is pinned for.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// A system and a processor.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize, ValueEnum)]
pub(crate) enum Platform {
    /// Linux with glibc 2.28 or newer on x86-64.
    #[value(name = "linux-x86_64")]
    LinuxX86_64,
    /// Linux with glibc 2.28 or newer on 64-bit ARM.
    #[value(name = "linux-aarch64")]
    LinuxAarch64,
    /// macOS 11 or newer on Apple's processors.
    #[value(name = "macos-arm64")]
    MacosArm64,
}

impl Platform {
    /// That of this program; none where nothing is pinned for it.
    pub(crate) fn host() -> Option<Self> {
        match (std::env::consts::OS, std::env::consts::ARCH) {
            ("linux", "x86_64") => Some(Self::LinuxX86_64),
            ("linux", "aarch64") => Some(Self::LinuxAarch64),
            ("macos", "aarch64") => Some(Self::MacosArm64),
            _ => None,
        }
    }

    /// The platform tags of its wheels; pip takes them literally, whatever machine it runs on.
    pub(crate) fn tags(self) -> Vec<String> {
        const GLIBC: [&str; 10] = [
            "manylinux_2_28",
            "manylinux_2_27",
            "manylinux_2_25",
            "manylinux_2_18",
            "manylinux_2_17",
            "manylinux2014",
            "manylinux_2_12",
            "manylinux2010",
            "manylinux_2_5",
            "manylinux1",
        ];
        let of = |processor: &str| GLIBC.map(|glibc| format!("{glibc}_{processor}")).to_vec();
        match self {
            Self::LinuxX86_64 => of("x86_64"),
            Self::LinuxAarch64 => of("aarch64"),
            Self::MacosArm64 => vec!["macosx_11_0_arm64".to_owned()],
        }
    }

    /// The file of a library.
    pub(crate) fn library(self, name: &str) -> String {
        match self {
            Self::MacosArm64 => format!("lib{name}.dylib"),
            _ => format!("lib{name}.so"),
        }
    }

    /// The libraries that an installation for the processor alone keeps. On Linux libtorch loads the two of CUDA although it never calls
    /// them there.
    pub(crate) fn cpu_libraries(self) -> &'static [&'static str] {
        match self {
            Self::LinuxX86_64 => &[
                "libc10.so",
                "libcudart.so.13",
                "libcupti.so.13",
                "libgomp.so.1",
                "libtorch_cpu.so",
            ],
            Self::LinuxAarch64 => &[
                "libarm_compute.so",
                "libarm_compute_graph.so",
                "libc10.so",
                "libcudart.so.13",
                "libcupti.so.13",
                "libgomp.so.1",
                "libnvpl_blas_core.so.0",
                "libnvpl_blas_lp64_gomp.so.0",
                "libnvpl_lapack_core.so.0",
                "libnvpl_lapack_lp64_gomp.so.0",
                "libtorch_cpu.so",
            ],
            Self::MacosArm64 => &[
                "libc10.dylib",
                "libomp.dylib",
                "libtorch.dylib",
                "libtorch_cpu.dylib",
            ],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wheels_and_libraries_are_those_of_the_platform() {
        assert_eq!(Platform::LinuxAarch64.tags()[0], "manylinux_2_28_aarch64");
        assert_eq!(Platform::MacosArm64.tags(), ["macosx_11_0_arm64"]);
        for platform in Platform::value_variants() {
            let kept = platform.cpu_libraries();
            for name in ["c10", "torch_cpu"] {
                assert!(
                    kept.contains(&&*platform.library(name)),
                    "{platform:?} {name}"
                );
            }
        }
        assert_eq!(
            Platform::host().is_some(),
            cfg!(any(target_os = "linux", target_os = "macos"))
        );
    }
}
