//! Gradients of all parameters of a network, and their sum over the microbatches of a step.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use meanflow_libtorch::{done, operations};
use tch::{Tensor, no_grad};

use crate::training::workers::lock;
use crate::{Parameters, TorchError};

/// The gradient of a loss with respect to every parameter of a network, in the order of [`Parameters::tensors`].
#[derive(Debug)]
pub struct Gradients {
    /// Undefined for a parameter that the loss does not depend on.
    tensors: Vec<Tensor>,
}

impl Gradients {
    /// Takes what backward passes have added up in the parameters, which carry no gradient afterwards.
    ///
    /// # Errors
    /// If libtorch refuses.
    pub fn take(parameters: &Parameters) -> Result<Self, TorchError> {
        Ok(Self {
            tensors: operations::take_gradients(&parameters.tensors())?,
        })
    }

    /// The gradient of every parameter; undefined where there is none.
    pub fn tensors(&self) -> &[Tensor] {
        &self.tensors
    }

    /// Those of the parameters in this range.
    pub(crate) fn part(&self, range: &Range<usize>) -> Self {
        let tensors = self.tensors[range.clone()].iter();
        Self {
            tensors: tensors.map(Tensor::shallow_clone).collect(),
        }
    }

    /// The Euclidean norm of the gradient of every parameter that has one, scalars on their device.
    pub(crate) fn norms(&self) -> Vec<Tensor> {
        let tensors: Vec<&Tensor> = self.defined().collect();
        done(no_grad(|| operations::norms(&tensors)))
    }

    /// The Euclidean norm over all parameters, a scalar on their device; 0 where no parameter has a gradient.
    pub fn norm(&self) -> Tensor {
        total_norm(&self.norms())
    }

    /// Whether the norm is finite, a boolean on the device.
    pub fn is_finite(&self) -> Tensor {
        self.norm().isfinite()
    }

    /// Multiplies all of them by a scalar on their device.
    pub fn scale(&mut self, factor: &Tensor) {
        for gradient in self.defined() {
            let _ = no_grad(|| gradient.shallow_clone().g_mul_(factor));
        }
    }

    /// Adds others of the same network.
    fn add(&mut self, others: Self) {
        for (sum, other) in self.tensors.iter_mut().zip(others.tensors) {
            if !sum.defined() {
                *sum = other;
            } else if other.defined() {
                let _ = no_grad(|| sum.g_add_(&other));
            }
        }
    }

    /// Of every parameter whether it has one.
    pub(crate) fn defined_ones(&self) -> Vec<bool> {
        self.tensors.iter().map(Tensor::defined).collect()
    }

    /// Gradients of these tensors, undefined for a parameter that has none.
    pub(crate) fn of(tensors: Vec<Tensor>) -> Self {
        Self { tensors }
    }

    fn defined(&self) -> impl Iterator<Item = &Tensor> {
        self.tensors.iter().filter(|tensor| tensor.defined())
    }
}

/// The Euclidean norm over all parameters from those of each, a scalar; 0 without one.
pub(crate) fn total_norm(norms: &[Tensor]) -> Tensor {
    if norms.is_empty() {
        return Tensor::from(0.0_f32);
    }
    Tensor::stack(norms, 0).norm()
}

/// Adds up the gradients of microbatches in a fixed tree of pairs, `((0 + 1) + (2 + 3)) + …`, whatever their order of arrival.
///
/// Sums of floating-point numbers depend on their order. In this tree it follows from the number of microbatches alone, so that no
/// digit of a step depends on who computed which microbatch when. A last one without a partner goes up a level as it is.
///
/// Besides the gradients that are being computed it holds at most one sum a level, and the `open` ones at its top.
#[derive(Debug)]
pub struct PairwiseSum {
    microbatches: usize,
    open: usize,
    waiting: Mutex<Vec<(Node, Gradients)>>,
}

/// A place in the tree: microbatches are the nodes of level 0, and node `i` of a level is the sum of the nodes `2i` and
/// `2i + 1` below it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Node {
    level: u32,
    index: usize,
}

impl PairwiseSum {
    /// A sum over this many microbatches, none of which has arrived. The first level with at most `open` nodes, at least one, is not
    /// added up any more.
    pub fn new(microbatches: usize, open: usize) -> Self {
        Self {
            microbatches,
            open: open.max(1),
            waiting: Mutex::default(),
        }
    }

    /// Adds the gradients of a microbatch, counted from 0, and all sums that become complete by it.
    pub fn add(&self, microbatch: usize, gradients: Gradients) {
        let mut node = Node {
            level: 0,
            index: microbatch,
        };
        let mut sum = gradients;
        while self.width(node.level) > self.open {
            if let Some(partner) = self.partner(node) {
                let mut waiting = lock(&self.waiting);
                let Some(found) = waiting.iter().position(|(other, _)| *other == partner) else {
                    waiting.push((node, sum));
                    return;
                };
                let (_, other) = waiting.swap_remove(found);
                drop(waiting);
                sum.add(other);
            }
            node = Node {
                level: node.level + 1,
                index: node.index / 2,
            };
        }
        lock(&self.waiting).push((node, sum));
    }

    /// The sums of the last level that was added up, in their order; a sum over them goes on in the same tree.
    pub fn finish(self) -> Vec<Gradients> {
        let waiting = self.waiting.into_inner();
        let mut sums = waiting.unwrap_or_else(PoisonError::into_inner);
        sums.sort_unstable_by_key(|(node, _)| node.index);
        sums.into_iter().map(|(_, sum)| sum).collect()
    }

    fn width(&self, level: u32) -> usize {
        self.microbatches.div_ceil(1 << level)
    }

    fn partner(&self, node: Node) -> Option<Node> {
        let index = node.index ^ 1;
        (index < self.width(node.level)).then_some(Node { index, ..node })
    }
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind};

    use super::*;

    fn one(x: f32) -> Gradients {
        Gradients {
            tensors: vec![Tensor::from_slice(&[x]), Tensor::new()],
        }
    }

    /// The sum over `order`, of which the levels with at most `open` sums are left to a second tree.
    fn sum(values: &[f32], order: &[usize], open: usize) -> f64 {
        let sum = PairwiseSum::new(values.len(), open);
        for index in order {
            sum.add(*index, one(values[*index]));
        }
        let sums = sum.finish();
        assert!(sums.len() <= open);
        let rest = PairwiseSum::new(sums.len(), 1);
        for (index, sum) in sums.into_iter().enumerate().rev() {
            rest.add(index, sum);
        }
        rest.finish()[0].tensors[0].double_value(&[0])
    }

    #[test]
    fn sums_are_those_of_the_tree_in_any_order_of_arrival() {
        let x = [1e8_f32, 3.3, -1e8, 7.7, 1.3e-3, 2.5e7, -2.5e7];
        let tree = [
            x[0],
            x[0] + x[1],
            (x[0] + x[1]) + x[2],
            (x[0] + x[1]) + (x[2] + x[3]),
            ((x[0] + x[1]) + (x[2] + x[3])) + x[4],
            ((x[0] + x[1]) + (x[2] + x[3])) + (x[4] + x[5]),
            ((x[0] + x[1]) + (x[2] + x[3])) + ((x[4] + x[5]) + x[6]),
        ];
        for (last, expected) in tree.iter().enumerate() {
            let values = &x[..=last];
            let rising: Vec<usize> = (0..values.len()).collect();
            let falling: Vec<usize> = rising.iter().rev().copied().collect();
            let turned: Vec<usize> = rising.iter().map(|i| (i + 2) % values.len()).collect();
            for order in [rising, falling, turned] {
                for open in [1, 2, 3, 8] {
                    assert_eq!(sum(values, &order, open), f64::from(*expected), "{order:?}");
                }
            }
        }
    }

    #[test]
    fn what_no_microbatch_reaches_stays_without_a_gradient() {
        let sum = PairwiseSum::new(2, 1);
        (0..2).for_each(|index| sum.add(index, one(1.0)));
        let total = &sum.finish()[0];
        assert!(!total.tensors[1].defined());
        assert_eq!(total.norm().double_value(&[]), 2.0);
        let none = Gradients {
            tensors: vec![Tensor::new()],
        };
        assert_eq!(none.norm().double_value(&[]), 0.0);
    }

    /// Its square would make Adam's second moment infinite, for ever.
    #[test]
    fn a_gradient_whose_square_overflows_is_not_finite() {
        for (x, finite) in [(1e18, 1), (1e30, 0), (f32::NAN, 0)] {
            for length in [1, 100_000] {
                let mut tensors = vec![Tensor::full([length], 1e-3, (Kind::Float, Device::Cpu))];
                let _ = tensors[0].get(length / 2).fill_(f64::from(x));
                tensors.push(Tensor::from_slice(&[1.0_f32]));
                assert_eq!(Gradients { tensors }.is_finite().int64_value(&[]), finite);
            }
        }
    }
}
