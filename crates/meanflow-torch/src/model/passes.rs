//! What a network has done: rows, counted where they pass through it.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::Dual;

/// Rows that went through a network.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct ForwardCounts {
    /// Rows of forward passes.
    pub forwards: u64,
    /// Those of them that had a tangent as well.
    pub tangents: u64,
    /// Those whose result was on the tape: a backward pass comes back through them.
    pub taped: u64,
}

impl ForwardCounts {
    /// What was done since `earlier`.
    pub fn since(self, earlier: Self) -> Self {
        Self {
            forwards: self.forwards - earlier.forwards,
            tangents: self.tangents - earlier.tangents,
            taped: self.taped - earlier.taped,
        }
    }

    /// In network forwards over a batch of `rows`: a tangent is one more forward of its row, a backward pass two.
    pub fn units(self, rows: usize) -> f64 {
        (self.forwards + self.tangents + 2 * self.taped) as f64 / rows as f64
    }
}

/// The running total of one network.
#[derive(Debug, Default)]
pub(crate) struct Counter {
    forwards: AtomicU64,
    tangents: AtomicU64,
    taped: AtomicU64,
}

impl Counter {
    /// Counts a forward by its result `u [B, …]`.
    pub(crate) fn forward(&self, u: &Dual) {
        let rows = u.primal().size()[0] as u64;
        self.forwards.fetch_add(rows, Ordering::Relaxed);
        if u.primal().requires_grad() {
            self.taped.fetch_add(rows, Ordering::Relaxed);
        }
        if let Some(tangent) = u.tangent() {
            self.tangents(tangent.size()[0] as u64);
        }
    }

    /// Counts tangents that did not go through as dual numbers.
    pub(crate) fn tangents(&self, rows: u64) {
        self.tangents.fetch_add(rows, Ordering::Relaxed);
    }

    pub(crate) fn total(&self) -> ForwardCounts {
        ForwardCounts {
            forwards: self.forwards.load(Ordering::Relaxed),
            tangents: self.tangents.load(Ordering::Relaxed),
            taped: self.taped.load(Ordering::Relaxed),
        }
    }
}
