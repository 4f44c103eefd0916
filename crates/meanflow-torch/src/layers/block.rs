//! The transformer block with adaptive layer norm (adaLN-zero; Peebles and Xie 2023).

use super::Linear;
use crate::Dual;
use crate::parameters::{Init, Scope};

/// The ε of every layer norm.
pub(crate) const EPSILON: f64 = 1e-6;

/// Attention and a two-layer perceptron, each shifted, scaled and gated by the condition.
///
/// Legend: `B` samples, `N` tokens, `D` width, `H` heads.
#[derive(Clone, Debug)]
pub struct Block {
    heads: i64,
    query_key_value: Linear,
    projection: Linear,
    expand: Linear,
    contract: Linear,
    modulation: Linear,
}

impl Block {
    /// Declares `attn.{qkv,proj}`, `mlp.{fc1,fc2}` and the zero-started `adaLN_modulation.1`.
    pub fn new(scope: &mut Scope, width: i64, heads: i64, hidden: i64) -> Self {
        Self {
            heads,
            query_key_value: Linear::xavier(&mut scope.sub("attn.qkv"), width, 3 * width),
            projection: Linear::xavier(&mut scope.sub("attn.proj"), width, width),
            expand: Linear::xavier(&mut scope.sub("mlp.fc1"), width, hidden),
            contract: Linear::xavier(&mut scope.sub("mlp.fc2"), hidden, width),
            modulation: Linear::new(
                &mut scope.sub("adaLN_modulation.1"),
                width,
                6 * width,
                Init::Zeros,
            ),
        }
    }

    /// `x [B, N, D]`, `condition [B, D]` after its SiLU, to `[B, N, D]`.
    ///
    /// `x`, norms and modulation keep the kind of the parameters; what comes out of a branch is added in it.
    pub fn forward(&self, x: &Dual, condition: &Dual) -> Dual {
        let [shift, scale, gate, shift_mlp, scale_mlp, gate_mlp] =
            modulation(&self.modulation, condition);
        let attended = self.attention(&x.norm_modulate(&shift, &scale, EPSILON));
        let x = x.add_gated(&gate, &attended);
        let hidden = self
            .expand
            .forward(&x.norm_modulate(&shift_mlp, &scale_mlp, EPSILON))
            .gelu();
        x.add_gated(&gate_mlp, &self.contract.forward(&hidden).to_kind(x.kind()))
    }

    fn attention(&self, x: &Dual) -> Dual {
        let attended = self.query_key_value.forward(x).self_attention(self.heads);
        self.projection.forward(&attended).to_kind(x.kind())
    }
}

/// The parts of a modulation, each `[B, 1, D]`.
pub(crate) fn modulation<const PARTS: usize>(linear: &Linear, condition: &Dual) -> [Dual; PARTS] {
    let parts = linear.forward(condition).to_kind(condition.kind());
    let parts = parts.split::<PARTS>(1);
    parts.map(|part| part.map_linear(|x| x.unsqueeze(1)))
}
