//! Embeddings of times and labels.

use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::Linear;
use crate::model::parameters::{Initializer, VarBuilder};
use crate::{Dual, Flops};

/// Which functions of (r, t) a network sees; `h = t − r` (Geng et al. 2025, Table 1c).
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TimeEmbedding {
    /// `(t, t − r)`, the published choice.
    TH,
    /// `(t, r)`.
    TR,
    /// `(t, r, t − r)`.
    TRH,
    /// `t − r` alone.
    H,
}

impl TimeEmbedding {
    /// The names of the times, as they appear in the names of the parameters, with their values; `r`, `t` `[B]`.
    pub(crate) fn times(self, r: &Dual, t: &Dual) -> Vec<Dual> {
        self.letters()
            .chars()
            .map(|letter| match letter {
                't' => t.clone(),
                'r' => r.clone(),
                _ => t.sub(r),
            })
            .collect()
    }

    /// How many times there are.
    pub(crate) fn count(self) -> i64 {
        self.letters().len() as i64
    }

    fn letters(self) -> &'static str {
        match self {
            Self::TH => "th",
            Self::TR => "tr",
            Self::TRH => "trh",
            Self::H => "h",
        }
    }
}

/// How many sinusoids embed a time, and their longest period over 2π.
const CHANNELS: i64 = 256;
const MAX_PERIOD: f64 = 10_000.0;

/// A sum of embedded times: each a sinusoid, then Linear, SiLU, Linear. Times are not scaled.
#[derive(Debug)]
pub struct TimestepEmbedder {
    embedding: TimeEmbedding,
    frequencies: Tensor,
    towers: Vec<[Linear; 2]>,
}

impl TimestepEmbedder {
    /// Declares `{t,r,h}_embedder.mlp.{0,2}` with normal(0.02) weights, as published.
    pub fn new(vars: &mut VarBuilder, embedding: TimeEmbedding, width: i64) -> Self {
        let half = CHANNELS / 2;
        let frequencies: Vec<f64> = (0..half)
            .map(|k| (-MAX_PERIOD.ln() * k as f64 / half as f64).exp())
            .collect();
        let towers = embedding.letters().chars().map(|letter| {
            let mut vars = vars.sub(format!("{letter}_embedder.mlp"));
            let first = Linear::new(&mut vars.sub(0), CHANNELS, width, Initializer::Normal(0.02));
            [
                first,
                Linear::new(&mut vars.sub(2), width, width, Initializer::Normal(0.02)),
            ]
        });
        Self {
            embedding,
            towers: towers.collect(),
            frequencies: vars.constant(&frequencies, &[half]),
        }
    }

    /// Of one time of each kind; the SiLU between two layers keeps its input.
    pub fn flops(&self) -> Flops {
        let tower = |[first, second]: &[Linear; 2]| {
            first.flops(1) + Flops::keep(first.outputs()) + second.flops(1)
        };
        self.towers.iter().map(tower).sum()
    }

    /// Times `[B]` to `[B, width]`.
    pub fn forward(&self, r: &Dual, t: &Dual) -> Dual {
        let embedded = self
            .embedding
            .times(r, t)
            .into_iter()
            .zip(&self.towers)
            .map(|(time, [first, second])| {
                second.forward(&first.forward(&time.sinusoid(&self.frequencies)).silu())
            });
        embedded
            .reduce(|sum, term| sum.add(&term))
            .expect("every embedding sees a time")
    }
}

/// A vector for every class and one, the last, for no class.
#[derive(Debug)]
pub struct LabelEmbedder {
    table: Tensor,
}

impl LabelEmbedder {
    /// Declares `embedding_table.weight [classes + 1, width]` with normal(0.02) rows.
    pub fn new(vars: &mut VarBuilder, classes: i64, width: i64) -> Self {
        let table = vars.sub("embedding_table").parameter(
            "weight",
            &[classes + 1, width],
            Initializer::Normal(0.02),
        );
        Self { table }
    }

    /// Labels `[B]` (int64) to `[B, width]`; a label does not move, so there is no tangent.
    pub fn forward(&self, labels: &Tensor) -> Tensor {
        Tensor::embedding(&self.table, labels, -1, false, false)
    }
}
