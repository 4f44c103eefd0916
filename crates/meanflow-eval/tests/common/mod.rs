//! Random features for the tests.

use meanflow_core::{Purpose, RngStream};
use meanflow_torch::{Kind, Tensor};

/// Standard normal features `[rows, dims]` in f64, fixed by the seed.
pub(crate) fn normal(rows: i64, dims: i64, seed: u64) -> Tensor {
    // Every test starts here: such tensors are too small to share out.
    tch::set_num_threads(1);
    let mut values = vec![0.0; (rows * dims) as usize];
    RngStream::new(seed, Purpose::Data, 0).fill_normal(&mut values);
    Tensor::from_slice(&values)
        .reshape([rows, dims])
        .to_kind(Kind::Double)
}
