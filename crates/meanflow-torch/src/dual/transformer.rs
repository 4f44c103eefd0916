//! What a transformer block with adaLN-zero is made of: modulation, gated residual, attention.

use meanflow_libtorch::done;
use tch::{Kind, Tensor, no_grad};

use super::{Dual, head};
use crate::dual::attention;
use crate::dual::kernels;

impl Dual {
    /// `x (1 + scale) + shift`, the adaptive part of an adaLN block; `x [B, N, D]`, `shift` and `scale` `[B, 1, D]`.
    pub fn modulate(&self, shift: &Self, scale: &Self) -> Self {
        let factor = &scale.primal + 1.0;
        let primal = shift.primal.addcmul(&self.primal, &factor);
        let products = [
            self.tangent
                .as_ref()
                .map(|dx| (dx.shallow_clone(), head(&factor, dx))),
            scale
                .tangent
                .as_ref()
                .map(|ds| (head(&self.primal, ds), ds.shallow_clone())),
        ];
        Self {
            tangent: sum_of_products(products, shift_everywhere(shift, &primal).as_ref()),
            primal,
        }
    }

    /// [`Dual::layer_norm`], then [`Dual::modulate`], in the dtype of the product that takes it.
    pub fn norm_modulate(&self, shift: &Self, scale: &Self, epsilon: f64, kind: Kind) -> Self {
        let x = &self.primal;
        if !kernels::serve_states(x) {
            return self
                .layer_norm(epsilon)
                .modulate(shift, scale)
                .to_kind(kind);
        }
        let made = if x.device().is_cuda() { kind } else { x.kind() };
        let (b, a) = (&shift.primal, &scale.primal);
        let result = done(kernels::norm_modulate(x, b, a, epsilon, made));
        let tangent = joint_tangent([self, shift, scale], |moving, like| {
            let (x, scale) = (head(x, like), head(a, like));
            done(kernels::norm_modulate_tangent(
                moving, &x, &scale, &result, made,
            ))
        });
        let primal = result.value;
        Self { primal, tangent }.to_kind(kind)
    }

    /// `x + gate · y`, a gated residual in the dtype of `x`; `x` and `y` `[B, N, D]`, `gate` `[B, 1, D]`.
    pub fn add_gated(&self, gate: &Self, y: &Self) -> Self {
        let serves = kernels::serve_states(&self.primal);
        if serves && self.primal.device().is_cuda() {
            return self.add_gated_by_kernel(gate, y);
        }
        let y = &y.to_kind(self.kind());
        if serves {
            return self.add_gated_by_kernel(gate, y);
        }
        let primal = self.primal.addcmul(&gate.primal, &y.primal);
        let products = [
            gate.tangent
                .as_ref()
                .map(|dg| (dg.shallow_clone(), head(&y.primal, dg))),
            y.tangent
                .as_ref()
                .map(|dy| (head(&gate.primal, dy), dy.shallow_clone())),
        ];
        Self {
            primal,
            tangent: sum_of_products(products, self.tangent.as_ref()),
        }
    }

    fn add_gated_by_kernel(&self, gate: &Self, y: &Self) -> Self {
        let tangent = joint_tangent([self, gate, y], |moving, like| {
            let (gate, y) = (head(&gate.primal, like), head(&y.primal, like));
            done(kernels::add_gated_tangent(moving, &gate, &y))
        });
        let primal = done(kernels::add_gated(&self.primal, &gate.primal, &y.primal));
        Self { primal, tangent }
    }

    /// Softmax attention `softmax(q kᵀ / √d) v`; all `[B, heads, N, d]`.
    pub fn attention(q: &Self, k: &Self, v: &Self) -> Self {
        let primal = attention::attend(&q.primal, &k.primal, &v.primal);
        let tangent = match (&q.tangent, &k.tangent, &v.tangent) {
            (Some(dq), Some(dk), Some(dv)) => Some(no_grad(|| {
                let [q, k, v] = [q, k, v].map(|x| head(&x.primal, dq));
                attention::tangent([&q, &k, &v], [dq, dk, dv])
            })),
            (None, None, None) => None,
            _ => unreachable!("query, key and value are projections of one state"),
        };
        Self { primal, tangent }
    }

    /// Softmax self-attention of packed queries, keys and values `[B, N, 3 D]` to `[B, N, D]`, `D` being `heads` times the
    /// width of a head.
    pub fn self_attention(&self, heads: i64) -> Self {
        if kernels::serve_attention(&self.primal) {
            let result = done(kernels::self_attention(&self.primal, heads));
            return self.with_rule(result.value, |dx, packed| {
                let logs = head(&result.logs, dx);
                done(kernels::self_attention_tangent(packed, &logs, dx))
            });
        }
        if self.tangent.is_some() && kernels::serve_attention_tangent(&self.primal, heads) {
            let value = Self::from(self.primal.shallow_clone()).attention_of_heads(heads);
            return self.with_rule(value.primal, |dx, packed| {
                done(kernels::short_attention_tangent(packed, dx, heads))
            });
        }
        self.attention_of_heads(heads)
    }

    /// [`Dual::self_attention`] by [`Dual::attention`].
    fn attention_of_heads(&self, heads: i64) -> Self {
        let [q, k, v] = self.chunk(2).map(|part| {
            part.map_linear(|x| {
                let (rows, tokens, width) = x.size3().expect("[B, N, D]");
                x.view([rows, tokens, heads, width / heads]).transpose(1, 2)
            })
        });
        Self::attention(&q, &k, &v).map_linear(|x| {
            let (rows, heads, tokens, width) = x.size4().expect("[B, H, N, d]");
            x.transpose(1, 2).reshape([rows, tokens, heads * width])
        })
    }
}

/// The tangent of a shift in every token of the primal that it shifts.
fn shift_everywhere(shift: &Dual, primal: &Tensor) -> Option<Tensor> {
    shift.tangent.as_ref().map(|db| {
        let mut size = primal.size();
        size[0] = db.size()[0];
        db.expand(size, false)
    })
}

/// `rule(tangents, one of them)` off the tape, if any of the parts moves.
fn joint_tangent<const PARTS: usize>(
    parts: [&Dual; PARTS],
    rule: impl FnOnce([Option<&Tensor>; PARTS], &Tensor) -> Tensor,
) -> Option<Tensor> {
    let moving = parts.map(|part| part.tangent.as_ref());
    let like = moving.into_iter().flatten().next()?;
    Some(no_grad(|| rule(moving, like)))
}

/// `Σ x y + rest` in one new buffer, off the tape; each product has the shape of the result.
fn sum_of_products(
    products: [Option<(Tensor, Tensor)>; 2],
    rest: Option<&Tensor>,
) -> Option<Tensor> {
    no_grad(|| {
        let mut sum: Option<Tensor> = None;
        for (x, y) in products.into_iter().flatten() {
            sum = Some(match sum {
                Some(mut sum) => sum.addcmul_(&x, &y),
                None => x * y,
            });
        }
        match (sum, rest) {
            (Some(mut sum), Some(rest)) => Some(sum.g_add_(rest)),
            (Some(sum), None) => Some(sum),
            (None, rest) => rest.map(Tensor::shallow_clone),
        }
    })
}
