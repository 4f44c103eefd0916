//! The table of files libtorch is made of: name, bytes, sha256. Nothing else is used unless it is asked for by name.

use super::platform::Platform;
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use std::fmt;

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
#[derive(Clone, Debug)]
pub(crate) struct Pin {
    /// How pip calls it: `name==version`.
    pub requirement: String,
    /// Its file name.
    pub file: String,
    /// Its length in bytes.
    pub bytes: u64,
    /// Its SHA-256, in lower-case hexadecimal digits.
    pub sha256: String,
}

/// The wheels that a device of a platform needs; none are pinned for CUDA on other platforms than x86-64 Linux. On Linux libtorch asks for
/// the CUDA runtime and profiler when it is loaded, on the CPU too.
pub(crate) fn wheels(platform: Platform, device: Device) -> Vec<Pin> {
    let table = match (platform, device) {
        (Platform::LinuxX86_64, Device::Cpu) => vec![BASE],
        (Platform::LinuxX86_64, Device::Cuda) => vec![BASE, CUDA],
        (Platform::LinuxAarch64, Device::Cpu) => vec![AARCH64],
        (Platform::MacosArm64, Device::Cpu) => vec![MACOS],
        (_, Device::Cuda) => Vec::new(),
    };
    table.concat().iter().map(pin).collect()
}

/// Requirement, file, bytes, sha256.
type Row = (&'static str, &'static str, u64, &'static str);

fn pin(&(requirement, file, bytes, sha256): &Row) -> Pin {
    Pin {
        requirement: requirement.to_owned(),
        file: file.to_owned(),
        bytes,
        sha256: sha256.to_owned(),
    }
}

/// Enough for the CPU of 64-bit ARM.
const AARCH64: &[Row] = &[
    (
        "torch==2.11.0",
        "torch-2.11.0-cp312-cp312-manylinux_2_28_aarch64.whl",
        419_731_115,
        "f99924682ef0aa6a4ab3b1b76f40dc6e273fca09f367d15a524266db100a723f",
    ),
    (
        "nvidia-cuda-cupti==13.0.85",
        "nvidia_cuda_cupti-13.0.85-py3-none-manylinux_2_25_aarch64.whl",
        10_310_827,
        "796bd679890ee55fb14a94629b698b6db54bcfd833d391d5e94017dd9d7d3151",
    ),
    (
        "nvidia-cuda-runtime==13.0.96",
        "nvidia_cuda_runtime-13.0.96-py3-none-manylinux2014_aarch64.manylinux_2_17_aarch64.whl",
        2_261_060,
        "ef9bcbe90493a2b9d810e43d249adb3d02e98dd30200d86607d8d02687c43f55",
    ),
];

/// Enough for the CPU of a Mac.
const MACOS: &[Row] = &[(
    "torch==2.11.0",
    "torch-2.11.0-cp312-cp312-macosx_11_0_arm64.whl",
    80_606_338,
    "4b5866312ee6e52ea625cd211dcb97d6a2cdc1131a5f15cc0d87eec948f6dd34",
)];

/// Enough for the CPU of x86-64.
const BASE: &[Row] = &[
    (
        "torch==2.11.0",
        "torch-2.11.0-cp312-cp312-manylinux_2_28_x86_64.whl",
        530_712_279,
        "0f68f4ac6d95d12e896c3b7a912b5871619542ec54d3649cf48cc1edd4dd2756",
    ),
    (
        "nvidia-cuda-cupti==13.0.85",
        "nvidia_cuda_cupti-13.0.85-py3-none-manylinux_2_25_x86_64.whl",
        10_715_597,
        "4eb01c08e859bf924d222250d2e8f8b8ff6d3db4721288cf35d14252a4d933c8",
    ),
    (
        "nvidia-cuda-runtime==13.0.96",
        "nvidia_cuda_runtime-13.0.96-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl",
        2_243_632,
        "7f82250d7782aa23b6cfe765ecc7db554bd3c2870c43f3d1821f1d18aebf0548",
    ),
];

/// What `BASE` lacks for CUDA: the torch wheel's own requirements, resolved once for this version.
const CUDA: &[Row] = &[
    (
        "nvidia-cublas==13.1.0.3",
        "nvidia_cublas-13.1.0.3-py3-none-manylinux_2_27_x86_64.whl",
        423_133_236,
        "ee8722c1f0145ab246bccb9e452153b5e0515fd094c3678df50b2a0888b8b171",
    ),
    (
        "nvidia-cuda-nvrtc==13.0.88",
        "nvidia_cuda_nvrtc-13.0.88-py3-none-manylinux2010_x86_64.manylinux_2_12_x86_64.whl",
        90_215_200,
        "ad9b6d2ead2435f11cbb6868809d2adeeee302e9bb94bcf0539c7a40d80e8575",
    ),
    (
        "nvidia-cudnn-cu13==9.19.0.56",
        "nvidia_cudnn_cu13-9.19.0.56-py3-none-manylinux_2_27_x86_64.whl",
        366_066_321,
        "d20e1734305e9d68889a96e3f35094d733ff1f83932ebe462753973e53a572bf",
    ),
    (
        "nvidia-cufft==12.0.0.61",
        "nvidia_cufft-12.0.0.61-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl",
        214_085_489,
        "6c44f692dce8fd5ffd3e3df134b6cdb9c2f72d99cf40b62c32dde45eea9ddad3",
    ),
    (
        "nvidia-cufile==1.15.1.6",
        "nvidia_cufile-1.15.1.6-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl",
        1_223_672,
        "08a3ecefae5a01c7f5117351c64f17c7c62efa5fffdbe24fc7d298da19cd0b44",
    ),
    (
        "nvidia-curand==10.4.0.35",
        "nvidia_curand-10.4.0.35-py3-none-manylinux_2_27_x86_64.whl",
        59_544_258,
        "1aee33a5da6e1db083fe2b90082def8915f30f3248d5896bcec36a579d941bfc",
    ),
    (
        "nvidia-cusolver==12.0.4.66",
        "nvidia_cusolver-12.0.4.66-py3-none-manylinux_2_27_x86_64.whl",
        200_941_980,
        "0a759da5dea5c0ea10fd307de75cdeb59e7ea4fcb8add0924859b944babf1112",
    ),
    (
        "nvidia-cusparse==12.6.3.3",
        "nvidia_cusparse-12.6.3.3-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl",
        145_942_937,
        "2b3c89c88d01ee0e477cb7f82ef60a11a4bcd57b6b87c33f789350b59759360b",
    ),
    (
        "nvidia-cusparselt-cu13==0.8.0",
        "nvidia_cusparselt_cu13-0.8.0-py3-none-manylinux2014_x86_64.whl",
        169_884_119,
        "25e30a8a7323935d4ad0340b95a0b69926eee755767e8e0b1cf8dd85b197d3fd",
    ),
    (
        "nvidia-nccl-cu13==2.28.9",
        "nvidia_nccl_cu13-2.28.9-py3-none-manylinux_2_18_x86_64.whl",
        196_493_177,
        "e4553a30f34195f3fa1da02a6da3d6337d28f2003943aa0a3d247bbc25fefc42",
    ),
    (
        "nvidia-nvjitlink==13.0.88",
        "nvidia_nvjitlink-13.0.88-py3-none-manylinux2010_x86_64.manylinux_2_12_x86_64.whl",
        40_713_933,
        "13a74f429e23b921c1109976abefacc69835f2f433ebd323d3946e11d804e47b",
    ),
    (
        "nvidia-nvshmem-cu13==3.4.5",
        "nvidia_nvshmem_cu13-3.4.5-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl",
        60_412_546,
        "290f0a2ee94c9f3687a02502f3b9299a9f9fe826e6d0287ee18482e78d495b80",
    ),
    (
        "nvidia-nvtx==13.0.85",
        "nvidia_nvtx-13.0.85-py3-none-manylinux1_x86_64.manylinux_2_5_x86_64.whl",
        148_047,
        "4936d1d6780fbe68db454f5e72a42ff64d1fd6397df9f363ae786930fd5c1cd4",
    ),
];
