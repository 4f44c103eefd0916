//! The machines that libtorch is pinned for.

use clap::ValueEnum;

/// A system and a processor.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
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
}
