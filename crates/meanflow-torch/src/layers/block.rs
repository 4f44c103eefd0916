//! The transformer block with adaptive layer norm (adaLN-zero; Peebles and Xie 2023).

use super::Linear;
use crate::model::parameters::{Initializer, VarBuilder};
use crate::{Dual, Flops};

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
    pub fn new(vars: &mut VarBuilder, width: i64, heads: i64, hidden: i64) -> Self {
        Self {
            heads,
            query_key_value: Linear::xavier(&mut vars.sub("attn.qkv"), width, 3 * width),
            projection: Linear::xavier(&mut vars.sub("attn.proj"), width, width),
            expand: Linear::xavier(&mut vars.sub("mlp.fc1"), width, hidden),
            contract: Linear::xavier(&mut vars.sub("mlp.fc2"), hidden, width),
            modulation: Linear::new(
                &mut vars.sub("adaLN_modulation.1"),
                width,
                6 * width,
                Initializer::Zeros,
            ),
        }
    }

    /// Of `tokens` tokens. Beside the inputs of the maps, both halves keep what their norms and gates take, as our kernels do
    /// (libtorch's own operations keep each normalised state too); attention keeps queries, keys and values, and its
    /// result as the input of the projection. All but the states that the norms take goes into a product or comes out of one.
    pub fn flops(&self, tokens: i64) -> Flops {
        let (width, hidden) = (self.projection.outputs(), self.expand.outputs());
        let maps = [
            &self.query_key_value,
            &self.projection,
            &self.expand,
            &self.contract,
        ];
        let elementwise = Flops::keep(tokens * (2 * width + 3 * width + hidden))
            // The activation's two gradients beside that of the state which goes round the half.
            + Flops::pass(tokens * (2 * hidden + width));
        let maps = maps.map(|map| map.flops(tokens)).into_iter().sum::<Flops>();
        (maps + Flops::attention(tokens, width) + elementwise).as_factors()
            + Flops::keep(tokens * 2 * width)
            + modulation_flops(&self.modulation)
    }

    /// `x [B, N, D]`, `condition [B, D]` after its SiLU, to `[B, N, D]`.
    ///
    /// `x`, norms and modulation keep the kind of the parameters; what comes out of a branch is added in it.
    pub fn forward(&self, x: &Dual, condition: &Dual) -> Dual {
        let [shift, scale, gate, shift_mlp, scale_mlp, gate_mlp] =
            modulation(&self.modulation, condition);
        let normal = x.norm_modulate(&shift, &scale, EPSILON, self.query_key_value.kind());
        let x = x.add_gated(&gate, &self.attention(&normal));
        let normal = x.norm_modulate(&shift_mlp, &scale_mlp, EPSILON, self.expand.kind());
        let hidden = self.expand.forward(&normal).gelu();
        x.add_gated(&gate_mlp, &self.contract.forward(&hidden))
    }

    fn attention(&self, x: &Dual) -> Dual {
        let attended = self.query_key_value.forward(x).self_attention(self.heads);
        self.projection.forward(&attended)
    }
}

/// Of a modulation, which is kept whole. The condition is kept once for all modulations, by whoever makes it.
pub(crate) fn modulation_flops(linear: &Linear) -> Flops {
    Flops {
        kept: linear.outputs() as u64,
        ..linear.flops(1)
    }
}

/// The parts of a modulation, each `[B, 1, D]`.
pub(crate) fn modulation<const PARTS: usize>(linear: &Linear, condition: &Dual) -> [Dual; PARTS] {
    let parts = linear.forward(condition).to_kind(condition.kind());
    let parts = parts.chunk::<PARTS>(1);
    parts.map(|part| part.map_linear(|x| x.unsqueeze(1)))
}
