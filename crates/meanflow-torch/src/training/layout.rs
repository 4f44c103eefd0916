//! Which parameters each of several processes, or threads, takes for its own, and their numbers one behind the other.

use std::ops::Range;

use tch::{Device, Kind, Tensor, no_grad};

use crate::Parameters;

/// The numbers of all parameters in one vector: those that each rank owns one after the other, padded to the length of the longest.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    owned: Vec<Range<usize>>,
    shapes: Vec<Vec<i64>>,
    /// Numbers of a rank.
    part: i64,
}

impl Layout {
    /// Of these parameters, shared by so many ranks.
    pub(crate) fn new(parameters: &Parameters, ranks: usize) -> Self {
        let owned: Vec<Range<usize>> = ranges(&sizes(parameters), ranks);
        let tensors = parameters.tensors();
        let length = |range: &Range<usize>| {
            let own = tensors[range.clone()].iter();
            own.map(|tensor| tensor.numel() as i64).sum()
        };
        let longest = owned.iter().map(length).max().unwrap_or(0);
        Self {
            // An operation of a group wants something to send.
            part: longest.max(1),
            shapes: tensors.iter().map(|tensor| tensor.size()).collect(),
            owned,
        }
    }

    /// The parameters of a rank.
    pub(crate) fn owned(&self, rank: usize) -> Range<usize> {
        self.owned[rank].clone()
    }

    /// Which parameters each rank has.
    pub(crate) fn ranks(&self) -> impl Iterator<Item = (usize, Range<usize>)> {
        self.owned.iter().cloned().enumerate()
    }

    /// How many parameters there are.
    pub(crate) fn parameters(&self) -> usize {
        self.shapes.len()
    }

    /// The shape of a parameter.
    pub(crate) fn shape(&self, parameter: usize) -> &[i64] {
        &self.shapes[parameter]
    }

    /// Numbers of a rank, with what pads them.
    pub(crate) fn part(&self) -> i64 {
        self.part
    }

    /// The vector of a rank, `[part]`, of tensors of all parameters, of which some may be undefined.
    pub(crate) fn pack(&self, rank: usize, tensors: &[Tensor], device: Device) -> Tensor {
        let vector = Tensor::zeros([self.part], (Kind::Float, device));
        for (index, place) in self.places(rank, &vector) {
            if tensors[index].defined() {
                no_grad(|| place.shallow_clone().copy_(&tensors[index].detach()));
            }
        }
        vector
    }

    /// Every parameter of a rank with its place in the vector of the rank, `[part]`, in the shape of the parameter.
    pub(crate) fn places<'a>(
        &'a self,
        rank: usize,
        vector: &'a Tensor,
    ) -> impl Iterator<Item = (usize, Tensor)> + 'a {
        let mut start = 0;
        self.owned(rank).map(move |index| {
            let shape = &self.shapes[index];
            let length = shape.iter().product();
            let place = vector.narrow(0, start, length).view(&shape[..]);
            start += length;
            (index, place)
        })
    }
}

/// The number of numbers of every parameter.
pub(crate) fn sizes(parameters: &Parameters) -> Vec<usize> {
    parameters
        .iter()
        .map(|(_, tensor)| tensor.numel())
        .collect()
}

/// Consecutive parameters of these sizes in `count` ranges of about as many numbers each.
pub(crate) fn ranges(sizes: &[usize], count: usize) -> Vec<Range<usize>> {
    let total: usize = sizes.iter().sum();
    let mut ranges = Vec::with_capacity(count);
    let (mut seen, mut end) = (0, 0);
    for part in 1..=count {
        let start = end;
        while end < sizes.len() && (part == count || (seen + sizes[end] / 2) * count < total * part)
        {
            seen += sizes[end];
            end += 1;
        }
        ranges.push(start..end);
    }
    ranges
}
