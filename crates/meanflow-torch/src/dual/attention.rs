//! Attention is one operation: a fused kernel where nothing is differentiated forward, products elsewhere.
//!
//! Shapes: `B` samples, `H` heads, `N` tokens, `d` head width; all tensors `[B, H, N, d]`.

use tch::{Kind, Tensor};

use crate::dual::kernels;

/// `softmax(q kᵀ / √d) v`.
pub(crate) fn attend(q: &Tensor, k: &Tensor, v: &Tensor) -> Tensor {
    if kernels::primitives_only() {
        let scores = q.matmul(&k.transpose(-2, -1)) * scale(q);
        return scores
            .softmax(-1, softmax_kind(q.kind()))
            .to_kind(q.kind())
            .matmul(v);
    }
    Tensor::scaled_dot_product_attention(q, k, v, None::<&Tensor>, 0.0, false, None, false)
}

/// The derivative of [`attend`] along `(dq, dk, dv)`; the probabilities are computed again, for these rows only.
///
/// Products of bfloat16 have their softmax, and its derivative, in f32.
pub(crate) fn tangent([q, k, v]: [&Tensor; 3], [dq, dk, dv]: [&Tensor; 3]) -> Tensor {
    let size = q.size();
    let flat = |x: &Tensor| x.reshape([size[0] * size[1], size[2], size[3]]);
    let [q, k, v, dq, dk, dv] = [q, k, v, dq, dk, dv].map(flat);
    let zero = Tensor::zeros([1], (q.kind(), q.device()));
    let product = |a: &Tensor, b: &Tensor| zero.baddbmm(a, &b.transpose(1, 2), 0.0, scale(&q));
    let (kind, sums) = (q.kind(), softmax_kind(q.kind()));
    let probabilities = product(&q, &k).softmax(-1, sums);
    let scores = product(&dq, &k).baddbmm(&q, &dk.transpose(1, 2), 1.0, scale(&q));
    let scores = scores.to_kind(sums);
    // The Jacobian of a softmax is symmetric, so its backward kernel is also its forward derivative.
    let change = Tensor::internal_softmax_backward_data(&scores, &probabilities, -1, sums);
    probabilities
        .to_kind(kind)
        .bmm(&dv)
        .baddbmm(&change.to_kind(kind), &v, 1.0, 1.0)
        .reshape(size)
}

fn softmax_kind(products: Kind) -> Kind {
    match products {
        Kind::BFloat16 => Kind::Float,
        kind => kind,
    }
}

fn scale(q: &Tensor) -> f64 {
    1.0 / (q.size()[q.dim() - 1] as f64).sqrt()
}
