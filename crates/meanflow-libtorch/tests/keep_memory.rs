//! Kept memory is not given back to the system, which would clear it again. A binary of its own: the setting is the whole process's.

use std::fs;

use meanflow_libtorch::memory;
use tch::{Device, Kind, Tensor};

/// Pages that the system has handed out to this process until now: proc(5), the tenth field of `stat`.
fn page_faults() -> u64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    // The second field, the name, is in parentheses and may hold spaces.
    let rest = stat.rsplit(')').next().unwrap();
    rest.split_whitespace().nth(7).unwrap().parse().unwrap()
}

/// The faults of ten tensors of 40 MiB, one after the other.
fn faults() -> u64 {
    let before = page_faults();
    for _ in 0..10 {
        drop(Tensor::ones([10 << 20], (Kind::Float, Device::Cpu)));
    }
    page_faults() - before
}

#[test]
fn freed_memory_is_used_again_until_every_tensor_is_mapped_on_its_own() {
    tch::set_num_threads(1);
    memory::keep();
    faults();
    let (kept, after) = (faults(), memory::peak(faults).1.unwrap());
    // 10240 pages each.
    assert!(kept < 100, "{kept} page faults");
    assert!(after < 1 << 20, "{after} bytes more than were kept");
    memory::count_live_memory_only();
    let mapped = faults();
    // Fewer where the system's pages are huge.
    assert!(mapped > kept + 100, "{mapped} page faults");
}
