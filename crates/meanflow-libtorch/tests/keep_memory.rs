//! Kept memory changes no number and does not pile up. A binary of its own: the allocator is the whole process's.

use meanflow_libtorch::memory;
use tch::{Device, Kind, Tensor};

const OPTIONS: (Kind, Device) = (Kind::Float, Device::Cpu);

/// Sizes on both sides of every border: empty, small blocks, large ones, huge pages.
const LENGTHS: [i64; 8] = [0, 1, 4079, 4081, 100_000, 524_272, 524_288, 3_000_001];

#[test]
fn kept_memory_is_reused_correctly_and_bounded() {
    let before = Tensor::arange(3_000_001, OPTIONS);
    memory::keep().unwrap();
    for _ in 0..3 {
        let tensors: Vec<Tensor> = LENGTHS
            .iter()
            .map(|length| Tensor::arange(*length, OPTIONS))
            .collect();
        for (length, tensor) in LENGTHS.iter().zip(&tensors) {
            assert_eq!(tensor.data_ptr().align_offset(64), 0, "{length}");
            assert_eq!(*tensor, before.narrow(0, 0, *length), "{length}");
        }
    }
    drop(before);
    // 64 sizes of 32 to 64 MiB one after the other: all kept at once they would be 3 GiB.
    let mib = (1 << 20) as f64;
    let ((), peak) = memory::peak(|| {
        for step in 0..64 {
            drop(Tensor::ones([(8 << 20) + (step << 17)], OPTIONS));
        }
    });
    // Twice the largest, and what the process had before.
    assert!(peak.unwrap() as f64 / mib < 160.0, "{peak:?}");
}
