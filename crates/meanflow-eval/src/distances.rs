//! Euclidean distances between two sets of features, a block of rows at a time.

use tch::{Kind, Tensor};

/// Most distances in memory at once: 128 MiB of them.
const BLOCK: i64 = 1 << 24;

/// A set of features with the squares of their lengths, for distances from it by one matrix product.
pub(crate) struct Points {
    rows: Tensor,
    squares: Tensor,
}

impl Points {
    /// Features `[N, D]` in f64, relative to `origin`, `[D]`: distances do not change, but their rounding is smaller near it.
    pub(crate) fn new(features: &Tensor, origin: &Tensor) -> Self {
        let rows = features - origin;
        let squares = rows.square().sum_dim_intlist(1, false, None::<Kind>);
        Self { rows, squares }
    }

    pub(crate) fn count(&self) -> i64 {
        self.rows.size()[0]
    }

    /// Calls `visit` with the number of a first point of ours and the squared distances `[block, M]` from it and those
    /// after it to all points of `others`, block by block.
    pub(crate) fn blocks(&self, others: &Self, mut visit: impl FnMut(i64, &Tensor)) {
        let block = (BLOCK / others.count().max(1)).max(1);
        let mut start = 0;
        while start < self.count() {
            let size = block.min(self.count() - start);
            visit(start, &self.squared(start, size, others));
            start += size;
        }
    }

    /// `|a|² + |b|² − 2 a·b`; what is below the rounding of that sum is the distance of equal points, zero.
    fn squared(&self, start: i64, size: i64, others: &Self) -> Tensor {
        let squares = self.squares.narrow(0, start, size).unsqueeze(1) + &others.squares;
        let rows = self.rows.narrow(0, start, size);
        let distances = &squares - rows.matmul(&others.rows.tr()) * 2.0;
        let rounding = squares * (8.0 * f64::EPSILON);
        distances.where_scalarother(&distances.gt_tensor(&rounding), 0.0)
    }
}
