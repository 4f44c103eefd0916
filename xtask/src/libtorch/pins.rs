//! The table of files libtorch is made of, `pins.toml`.

use super::platform::Platform;
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::LazyLock;

/// The version whose bindings the workspace uses (tch 0.24).
pub(crate) const VERSION: &str = "2.11.0";

/// The official archive (CPU). Its bytes and sha256 are not pinned yet: `--from archive` asks for it by name.
pub(crate) const ARCHIVE: &str =
    "https://download.pytorch.org/libtorch/cpu/libtorch-shared-with-deps-2.11.0%2Bcpu.zip";

/// What the libtorch can compute on.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Device {
    /// The processor only (0.5 GB).
    Cpu,
    /// NVIDIA GPUs as well (CUDA 13; 2 GB of downloads, 4 GB on disk).
    Cuda,
}

impl fmt::Display for Device {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
        })
    }
}

/// One pinned file.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Pin {
    /// Its file name.
    pub file: String,
    /// Its length in bytes.
    pub bytes: u64,
    /// Its SHA-256, in lower-case hexadecimal digits.
    pub sha256: String,
}

impl Pin {
    /// How pip calls it, `name==version`, by the rule for names of wheels.
    pub(crate) fn requirement(&self) -> String {
        let mut parts = self.file.splitn(3, '-');
        let [name, version] = [(); 2].map(|()| parts.next().unwrap_or_default());
        format!("{}=={version}", name.replace('_', "-"))
    }
}

/// What the table has of a platform.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Made {
    libraries: Vec<String>,
    cpu: Vec<Pin>,
    cuda: Vec<Pin>,
}

static TABLE: LazyLock<BTreeMap<String, Made>> =
    LazyLock::new(|| toml::from_str(include_str!("pins.toml")).expect("the table of pins"));

fn made(platform: Platform) -> &'static Made {
    let name = platform.to_possible_value().expect("none is left out");
    &TABLE[name.get_name()]
}

/// The wheels that a device of a platform needs; none are pinned for CUDA on other platforms than x86-64 Linux.
pub(crate) fn wheels(platform: Platform, device: Device) -> Vec<Pin> {
    let made = made(platform);
    match device {
        Device::Cpu => made.cpu.clone(),
        Device::Cuda if made.cuda.is_empty() => Vec::new(),
        Device::Cuda => [&made.cpu[..], &made.cuda].concat(),
    }
}

/// The libraries that an installation for the processor alone keeps.
pub(crate) fn cpu_libraries(platform: Platform) -> &'static [String] {
    &made(platform).libraries
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_platform_has_libtorch_and_what_pip_calls_it() {
        for platform in Platform::value_variants() {
            for name in ["c10", "torch_cpu"] {
                let library = platform.library(name);
                assert!(cpu_libraries(*platform).contains(&library), "{platform:?}");
            }
            let requirement = wheels(*platform, Device::Cpu)[0].requirement();
            assert_eq!(requirement, format!("torch=={VERSION}"));
        }
        let all = wheels(Platform::LinuxX86_64, Device::Cuda);
        assert_eq!(all[5].requirement(), "nvidia-cudnn-cu13==9.19.0.56");
        assert!(wheels(Platform::LinuxAarch64, Device::Cuda).is_empty());
    }
}
