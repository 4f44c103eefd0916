//! What a step takes from the host, laid out on the device before it begins: from then on nothing goes over.

use meanflow_cfg::{Coefficients, GuidancePlan, guided_velocity};
use meanflow_core::combination::coefficients;
use meanflow_core::{Schedule, TimeDraw, identity};
use tch::kind::Element;
use tch::{Device, Kind, Tensor, no_grad};

use crate::tensor::combination;
use crate::{Batch, Conditioning, Dropout, Model, Objective, TorchError, host};

/// A batch with every number that the loss of an [`Objective`] takes from it: times, labels, the coefficients of
/// (M1), (M2), (M13) and (M20), and which rows need a forward for their guidance.
///
/// The numbers of another batch can be put in their place, [`StepInputs::fill`]; what is computed from them is then the same
/// work on the same memory.
#[derive(Debug)]
pub struct StepInputs {
    pub(crate) data: Tensor,
    pub(crate) noise: Tensor,
    augment: Option<Tensor>,
    dropout: Option<Dropout>,
    /// `r`, `t`, then `a`, `b` (M1), `a'` and `b'` (M2), `[B]` each.
    times: Packed<6>,
    /// `1` and `−(t−r)` of the MeanFlow rows (M13), `[k]` each.
    target: Packed<2>,
    /// The labels as trained, `[B]`; none for a network without classes.
    labels: Option<Packed<1>>,
    pub(crate) guidance: GuidanceInputs,
}

/// What the guided velocity (M20) takes. `F` rows need a forward of their own.
#[derive(Debug)]
pub(crate) struct GuidanceInputs {
    /// The weights of `v`, `u(z,t,t|c)` and `u(z,t,t|∅)`, `[B]` each, and the times of the forwards, `[F]`.
    weights: Packed<4>,
    /// The rows of the forwards and their labels, `[F]` each, and the rows whose `u(z,t,t|c)` is in the main forward.
    rows: Packed<3>,
    /// How many of the forwards are with the class; they come first, the null class follows.
    with_class: i64,
}

impl StepInputs {
    /// What `objective` takes from `batch` for its loss of `model`.
    ///
    /// # Errors
    /// If the parts of the batch differ in their number of rows.
    pub fn new(objective: &Objective, model: &Model, batch: &Batch) -> Result<Self, TorchError> {
        Self::with_plan(objective, model, batch, |plan| plan)
    }

    /// The same with a forward for every row that guidance could ask one for: batches with as many MeanFlow rows are the same work,
    /// whichever labels are dropped and whichever times are guided. The loss is the same but for the roundings of products with
    /// more rows.
    ///
    /// # Errors
    /// As [`StepInputs::new`].
    pub fn padded(objective: &Objective, model: &Model, batch: &Batch) -> Result<Self, TorchError> {
        Self::with_plan(objective, model, batch, |plan| {
            plan.padded(&objective.guidance, batch.times.jumps)
        })
    }

    fn with_plan(
        objective: &Objective,
        model: &Model,
        batch: &Batch,
        padded: impl FnOnce(GuidancePlan) -> GuidancePlan,
    ) -> Result<Self, TorchError> {
        batch.check()?;
        let classes = model.config().classes;
        let (kind, device) = (batch.data.kind(), batch.data.device());
        let labels = batch.training_labels(classes);
        let labels = labels.unwrap_or_else(|| vec![classes; batch.rows()]);
        let plan = GuidancePlan::new(&objective.guidance, &batch.times, &batch.without_class());
        let mut plan = padded(plan);
        let dropout = batch.dropout_of(model);
        if dropout.is_some() {
            // The main forward has dropped units, which the velocity of guidance has not: no row of it can be reused.
            plan.class_forward.append(&mut plan.class_reuse);
        }
        Ok(Self {
            data: batch.data.shallow_clone(),
            noise: batch.noise.shallow_clone(),
            augment: batch.augment.as_ref().map(Tensor::shallow_clone),
            dropout,
            times: Packed::new(&times(&objective.schedule, &batch.times), kind, device),
            target: Packed::new(&target(&batch.times), kind, device),
            guidance: GuidanceInputs::new(&plan, batch, &labels, classes),
            labels: (classes > 0).then(|| Packed::new(&[labels], Kind::Int64, device)),
        })
    }

    /// Puts the numbers of `other` into the memory of this.
    ///
    /// # Errors
    /// If other numbers of rows are jumps, or need a forward for their guidance: it would be other work.
    pub fn fill(&mut self, other: &Self) -> Result<(), TorchError> {
        let (expected, got) = (self.shape(), other.shape());
        if expected != got {
            return Err(TorchError::Argument {
                what: "batch in the place of another",
                expected: format!("{expected:?}"),
                got: format!("{got:?}"),
            });
        }
        no_grad(|| {
            for (own, other) in self.tensors().into_iter().zip(other.tensors()) {
                own.shallow_clone().copy_(other);
            }
        });
        self.dropout = other.dropout;
        Ok(())
    }

    /// The number of rows.
    pub fn rows(&self) -> i64 {
        self.data.size()[0]
    }

    fn tensors(&self) -> Vec<&Tensor> {
        let Self {
            data,
            noise,
            augment,
            dropout: _,
            times,
            target,
            labels,
            guidance,
        } = self;
        let mut tensors = vec![data, noise, &times.whole, &target.whole];
        tensors.extend([&guidance.weights.whole, &guidance.rows.whole]);
        tensors.extend(labels.as_ref().map(|labels| &labels.whole));
        tensors.extend(augment);
        tensors
    }

    /// From these sizes follow all others in the step.
    fn shape(&self) -> Shape {
        Shape {
            tensors: self.tensors().into_iter().map(Tensor::size).collect(),
            jumps: self.jumps(),
            forwards: self.guidance.forwards(),
        }
    }

    /// The number of rows with `r < t`, which come first.
    pub(crate) fn jumps(&self) -> i64 {
        self.target.parts[0].size()[0]
    }

    /// `r [B]`.
    pub(crate) fn r(&self) -> &Tensor {
        &self.times.parts[0]
    }

    /// `t [B]`.
    pub(crate) fn t(&self) -> &Tensor {
        &self.times.parts[1]
    }

    /// `z_t = a(t) x + b(t) e` (M1), `[B, …]`.
    pub(crate) fn z(&self) -> Tensor {
        let [_, _, a, b, _, _] = &self.times.parts;
        combination(&[(a, &self.data), (b, &self.noise)])
    }

    /// `v_t = a'(t) x + b'(t) e` (M2), `[B, …]`.
    pub(crate) fn v(&self) -> Tensor {
        let [_, _, _, _, da, db] = &self.times.parts;
        combination(&[(da, &self.data), (db, &self.noise)])
    }

    /// `v − (t − r) du/dt` (M13) of the rows with `r < t`, `[k, …]`.
    pub(crate) fn target(&self, v: &Tensor, dudt: &Tensor) -> Tensor {
        let [of_v, of_dudt] = &self.target.parts;
        combination(&[(of_v, v), (of_dudt, dudt)])
    }

    /// What the network is conditioned on in training.
    pub(crate) fn condition(&self) -> Conditioning {
        Conditioning {
            labels: self.labels.as_ref().map(|x| x.parts[0].shallow_clone()),
            augment: self.augment.as_ref().map(Tensor::shallow_clone),
            dropout: self.dropout,
        }
    }

    /// The condition of the forwards of guidance, which drop no units.
    pub(crate) fn guidance_condition(&self) -> Conditioning {
        let GuidanceInputs { rows, .. } = &self.guidance;
        Conditioning {
            labels: self.labels.is_some().then(|| rows.parts[1].shallow_clone()),
            augment: self
                .augment
                .as_ref()
                .map(|all| all.index_select(0, &rows.parts[0])),
            dropout: None,
        }
    }
}

impl GuidanceInputs {
    /// For the rows of `batch`, with their labels as trained; `none` is the label of no class.
    fn new(plan: &GuidancePlan, batch: &Batch, labels: &[i64], none: i64) -> Self {
        let forwards = [plan.class_forward.as_slice(), &plan.null_forward].concat();
        let times = forwards.iter().map(|row| batch.times.intervals[*row].t());
        let with_class = plan.class_forward.len();
        let mut of_forwards: Vec<i64> = forwards.iter().map(|row| labels[*row]).collect();
        of_forwards[with_class..].fill(none);
        let [v, class, null] = weights(&plan.coefficients);
        let (kind, device) = (batch.data.kind(), batch.data.device());
        let rows = [numbers(&forwards), of_forwards, numbers(&plan.class_reuse)];
        Self {
            weights: Packed::new(&[v, class, null, times.collect()], kind, device),
            rows: Packed::new(&rows, Kind::Int64, device),
            with_class: with_class as i64,
        }
    }

    /// The weights of `v`, `u(z,t,t|c)` and `u(z,t,t|∅)`.
    pub(crate) fn weights(&self) -> [&Tensor; 3] {
        let [v, class, null, _] = &self.weights.parts;
        [v, class, null]
    }

    /// How many forwards are with the class and, after them, without one.
    pub(crate) fn forwards(&self) -> (i64, i64) {
        (self.with_class, self.rows().size()[0] - self.with_class)
    }

    /// The rows of the forwards.
    pub(crate) fn rows(&self) -> &Tensor {
        &self.rows.parts[0]
    }

    /// The times of the forwards.
    pub(crate) fn times(&self) -> &Tensor {
        &self.weights.parts[3]
    }

    /// The rows whose `u(z,t,t|c)` is their row of the main forward.
    pub(crate) fn reused(&self) -> &Tensor {
        &self.rows.parts[2]
    }
}

/// The sizes of a step.
#[derive(Debug, PartialEq)]
struct Shape {
    tensors: Vec<Vec<i64>>,
    jumps: i64,
    /// With their class and without.
    forwards: (i64, i64),
}

/// Vectors one after the other in one tensor on a device, and a view of each.
#[derive(Debug)]
struct Packed<const N: usize> {
    whole: Tensor,
    parts: [Tensor; N],
}

impl<const N: usize> Packed<N> {
    /// The vectors as numbers of this kind; they go over in one transfer.
    fn new<T: Element + Copy>(vectors: &[Vec<T>; N], kind: Kind, device: Device) -> Self {
        let lengths: Vec<i64> = vectors.iter().map(|vector| vector.len() as i64).collect();
        let host = Tensor::from_slice(&vectors.concat()).to_kind(kind);
        let whole = host::send(&host, device);
        let parts = whole.split_with_sizes(&lengths, 0);
        let parts = parts.try_into().expect("a part for every vector");
        Self { whole, parts }
    }
}

fn times(path: &Schedule, times: &TimeDraw) -> [Vec<f64>; 6] {
    let (r, t) = (times.rs(), times.ts());
    let [a, b] = coefficients(t.len(), |[x, e]| path.interpolate(x, e, &t));
    let [da, db] = coefficients(t.len(), |[x, e]| path.velocity(x, e, &t));
    [r, t, a, b, da, db]
}

fn target(times: &TimeDraw) -> [Vec<f64>; 2] {
    let lengths = &times.lengths()[..times.jumps];
    coefficients(times.jumps, |[v, dudt]| identity::target(v, dudt, lengths))
}

fn weights(rows: &[Coefficients]) -> [Vec<f64>; 3] {
    coefficients(rows.len(), |[v, class, null]| {
        guided_velocity(v, Some(class), Some(null), rows)
    })
}

fn numbers(rows: &[usize]) -> Vec<i64> {
    rows.iter().map(|row| *row as i64).collect()
}
