//! Sums over the ranks of a group whose bits do not depend on how many ranks there are.

use tch::Tensor;

use crate::{LibtorchError, ProcessGroup};

impl ProcessGroup {
    /// The sum `[N]` of the rows of `leaves`, `[K, N]`, of all ranks, in a fixed tree of pairs: the leaves are counted from rank 0's
    /// first to the last rank's last, and are added up as `((0 + 1) + (2 + 3)) + …`; a last one without a partner goes up a level as
    /// it is. So the same leaves have the same sum, bit for bit, on any number of ranks that divides theirs.
    ///
    /// Every rank adds up a part of the numbers. It sends `K N` numbers and gets as many, then sends its part of the sum to all.
    ///
    /// # Errors
    /// As [all operations](Self#errors).
    pub fn sum_in_pairs(&self, leaves: &Tensor) -> Result<Tensor, LibtorchError> {
        let Ok((count, numbers)) = leaves.size2() else {
            let shape = leaves.size();
            let text = format!("expected leaves of shape [K, N], got {shape:?}");
            return Err(LibtorchError::call("sum in pairs", text));
        };
        let ranks = self.size() as i64;
        let part = (numbers + ranks - 1) / ranks;
        let padded = leaves.constant_pad_nd([0, part * ranks - numbers]);
        let parts = padded.view([count, ranks, part]).transpose(0, 1);
        let sum = self.scatter_in_pairs(&parts.contiguous())?;
        Ok(self.all_gather(&sum)?.narrow(0, 0, numbers))
    }

    /// Of the sums of [`ProcessGroup::sum_in_pairs`] the part of this rank, `[N]`: of `parts`, `[size, K, N]`, the `i`-th holds the `K` leaves
    /// of what rank `i` adds up.
    ///
    /// # Errors
    /// As [all operations](Self#errors).
    pub fn scatter_in_pairs(&self, parts: &Tensor) -> Result<Tensor, LibtorchError> {
        let Ok((_, count, numbers)) = parts.size3() else {
            let shape = parts.size();
            let text = format!("expected parts of shape [size, K, N], got {shape:?}");
            return Err(LibtorchError::call("sum in pairs", text));
        };
        let received = self.all_to_all(parts)?;
        Ok(pairwise(
            received.view([self.size() as i64 * count, numbers]),
        ))
    }
}

/// The sum of the rows of `[M, N]` in the tree, `[N]`.
fn pairwise(mut rows: Tensor) -> Tensor {
    loop {
        let (count, numbers) = rows.size2().expect("rows of numbers");
        if count == 1 {
            return rows.squeeze_dim(0);
        }
        let pairs = rows.narrow(0, 0, count / 2 * 2).view([-1, 2, numbers]);
        let sums = pairs.select(1, 0) + pairs.select(1, 1);
        rows = if count % 2 == 0 {
            sums
        } else {
            Tensor::cat(&[sums, rows.narrow(0, count - 1, 1)], 0)
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_added_in_the_tree() {
        let x = [1e8_f32, 3.3, -1e8, 7.7, 1.3e-3, 2.5e7, -2.5e7];
        let trees = [
            x[0],
            x[0] + x[1],
            (x[0] + x[1]) + x[2],
            (x[0] + x[1]) + (x[2] + x[3]),
            ((x[0] + x[1]) + (x[2] + x[3])) + x[4],
            ((x[0] + x[1]) + (x[2] + x[3])) + (x[4] + x[5]),
            ((x[0] + x[1]) + (x[2] + x[3])) + ((x[4] + x[5]) + x[6]),
        ];
        for (last, expected) in trees.into_iter().enumerate() {
            let rows = Tensor::from_slice(&x[..=last]).unsqueeze(1);
            let sum = pairwise(rows).double_value(&[0]);
            assert_eq!(sum, f64::from(expected), "{last}");
        }
    }
}
