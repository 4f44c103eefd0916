//! Single operations on the device in f32 against libtorch's own operations in f64 on the CPU.

use meanflow_torch::{Dual, TorchError, kernels};
use tch::{Device, Kind, Tensor};

use super::subject::normal;
use super::{CheckWork, Found};
use crate::{Comparison, Tolerance};

/// Rounding in f32 of sums of up to 288 products, in the Euclidean norm: a few 1e-7. TF32, which keeps 10 bits of each
/// factor, shows about 3e-4.
const F32: Tolerance = Tolerance::new(2e-6, f64::INFINITY);
/// Value, tangent and gradients of one operation; a norm divides by a deviation, which multiplies roundings.
const OPERATION: Tolerance = Tolerance::new(5e-6, f64::INFINITY);
/// Where numbers are rounded to the 8 bits of bfloat16 on their way: at most 2⁻⁹ each, twice.
const ROUNDED: Tolerance = Tolerance::new(4e-3, f64::INFINITY);
/// The same through probabilities, whose changes are small differences of larger numbers.
const ATTENTION_ROUNDED: Tolerance = Tolerance::new(1.6e-2, f64::INFINITY);

pub(super) fn checks(device: Device) -> Vec<(String, CheckWork<'static>)> {
    let mut checks: Vec<(String, CheckWork<'static>)> = vec![(
        "f32 is not rounded to TF32".to_owned(),
        Box::new(move || Ok(factors(device).into())),
    )];
    for operation in OPERATIONS {
        let work = move || {
            let remark = kernels::missing_on(device).unwrap_or_default();
            Ok(Found::Compared(operation.check(device)?, remark))
        };
        checks.push((format!("operation {}", operation.name), Box::new(work)));
    }
    checks
}

/// A matrix product and a convolution, the two that TF32 would round.
fn factors(device: Device) -> Vec<Comparison> {
    let (a, b) = (normal(1, &[64, 256]), normal(2, &[256, 64]));
    let (x, w) = (normal(3, &[2, 32, 16, 16]), normal(4, &[32, 32, 3, 3]));
    let on = |x: &Tensor, device, kind| x.to_kind(kind).to_device(device);
    let product = |device, kind| on(&a, device, kind).matmul(&on(&b, device, kind));
    let convolution = |device, kind| {
        on(&x, device, kind).conv2d(&on(&w, device, kind), None::<Tensor>, 1, 1, 1, 1)
    };
    let compared = |name, run: &dyn Fn(Device, Kind) -> Tensor| {
        let reference = run(Device::Cpu, Kind::Double);
        Comparison::new(name, &run(device, Kind::Float), &reference, F32)
    };
    vec![
        compared("matrix product", &product),
        compared("convolution", &convolution),
    ]
}

/// An operation over dual numbers with the shapes of its inputs, and which of them have a tangent.
#[derive(Clone, Copy)]
struct Operation {
    name: &'static str,
    shapes: &'static [&'static [i64]],
    moving: &'static [bool],
    tolerance: Tolerance,
    apply: fn(&[Dual]) -> Dual,
}

const OPERATIONS: [Operation; 9] = [
    Operation {
        name: "linear",
        shapes: &[&[6, 10, 48], &[80, 48], &[80]],
        moving: &[true, false, false],
        tolerance: OPERATION,
        apply: |x| x[0].linear(x[1].primal(), Some(x[2].primal())),
    },
    Operation {
        name: "gelu",
        shapes: &[&[6, 70]],
        moving: &[true],
        tolerance: OPERATION,
        apply: |x| x[0].gelu(),
    },
    Operation {
        name: "norm and modulation",
        shapes: &[&[6, 10, 64], &[6, 1, 64], &[6, 1, 64]],
        moving: &[true, true, true],
        tolerance: OPERATION,
        apply: |x| x[0].norm_modulate(&x[1], &x[2], 1e-6, x[0].kind()),
    },
    Operation {
        name: "norm and modulation to bf16",
        shapes: &[&[6, 10, 64], &[6, 1, 64], &[6, 1, 64]],
        moving: &[true, true, true],
        tolerance: ROUNDED,
        apply: |x| {
            x[0].norm_modulate(&x[1], &x[2], 1e-6, Kind::BFloat16)
                .to_kind(x[0].kind())
        },
    },
    Operation {
        name: "gated sum",
        shapes: &[&[6, 10, 64], &[6, 1, 64], &[6, 10, 64]],
        moving: &[true, true, true],
        tolerance: OPERATION,
        apply: |x| x[0].add_gated(&x[1], &x[2]),
    },
    Operation {
        name: "gated sum of bf16",
        shapes: &[&[6, 10, 64], &[6, 1, 64], &[6, 10, 64]],
        moving: &[true, true, true],
        tolerance: ROUNDED,
        apply: |x| x[0].add_gated(&x[1], &x[2].to_kind(Kind::BFloat16)),
    },
    Operation {
        name: "self-attention",
        shapes: &[&[4, 40, 144]],
        moving: &[true],
        tolerance: OPERATION,
        apply: |x| x[0].self_attention(2),
    },
    Operation {
        name: "self-attention of bf16",
        shapes: &[&[4, 40, 144]],
        moving: &[true],
        tolerance: ATTENTION_ROUNDED,
        apply: |x| {
            let rounded = x[0].to_kind(Kind::BFloat16);
            rounded.self_attention(2).to_kind(x[0].kind())
        },
    },
    Operation {
        name: "group norm",
        shapes: &[&[4, 16, 6, 6], &[16], &[16]],
        moving: &[true, false, false],
        tolerance: OPERATION,
        apply: |x| x[0].group_norm(4, x[1].primal(), x[2].primal(), 1e-6),
    },
];

impl Operation {
    fn check(&self, device: Device) -> Result<Vec<Comparison>, TorchError> {
        let ours = self.run(device, Kind::Float)?;
        let reference = kernels::with_primitives_only(|| self.run(Device::Cpu, Kind::Double))?;
        let pairs = ours.iter().zip(&reference);
        Ok(pairs
            .map(|((name, ours), (_, reference))| {
                Comparison::new(name, ours, reference, self.tolerance)
            })
            .collect())
    }

    /// Value, tangent of the first half of the rows, and the gradient of a projection of the value for every input.
    fn run(&self, device: Device, kind: Kind) -> Result<Vec<(String, Tensor)>, TorchError> {
        let placed = |x: Tensor| x.to_kind(kind).to_device(device);
        let leaves: Vec<Tensor> = (0..)
            .zip(self.shapes)
            .map(|(seed, shape)| placed(normal(20 + seed, shape)).set_requires_grad(true))
            .collect();
        let mut duals = Vec::new();
        for (seed, (leaf, moving)) in (0..).zip(leaves.iter().zip(self.moving)) {
            duals.push(if *moving {
                let mut shape = leaf.size();
                shape[0] /= 2;
                Dual::new(leaf.shallow_clone(), placed(normal(40 + seed, &shape)))?
            } else {
                leaf.shallow_clone().into()
            });
        }
        let (value, tangent) = (self.apply)(&duals).into_parts();
        let weight = placed(normal(60, &value.size()));
        (&value * weight).sum(None::<Kind>).backward();
        let mut results = vec![("value".to_owned(), value.detach())];
        results.extend(tangent.map(|tangent| ("tangent".to_owned(), tangent)));
        for (index, leaf) in leaves.iter().enumerate() {
            results.push((format!("gradient of input {index}"), leaf.grad()));
        }
        Ok(results)
    }
}
