//! The numbers that `fixtures/make.py` makes of names, so that only outputs are stored.

use meanflow_torch::Tensor;

/// Words of 32 bits: the finaliser of MurmurHash3 over a counter that starts at the FNV-1a hash of the name.
pub(crate) fn words(name: &str, count: usize) -> impl Iterator<Item = u32> {
    let seed = name.bytes().fold(0x811C_9DC5_u32, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    });
    (0..count as u32).map(move |index| {
        let mut h = index.wrapping_mul(0x9E37_79B1).wrapping_add(seed);
        for (shift, factor) in [(16, 0x85EB_CA6B), (13, 0xC2B2_AE35)] {
            h = (h ^ (h >> shift)).wrapping_mul(factor);
        }
        h ^ (h >> 16)
    })
}

/// Pictures of bytes.
pub(crate) fn pictures(name: &str, shape: &[i64]) -> Tensor {
    let count = shape.iter().product::<i64>() as usize;
    let bytes: Vec<u8> = words(name, count).map(|word| (word >> 24) as u8).collect();
    Tensor::from_slice(&bytes).reshape(shape)
}
