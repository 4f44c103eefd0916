//! Every kernel against the libtorch operations that it stands for: value, gradients and tangent.

use meanflow_core::random::{Purpose, RngStream};
use meanflow_libtorch::kernels::RoundedLinear;
use proptest::prelude::*;
use tch::{Device, Kind, Tensor, no_grad};

use super::{libtorch, with_primitives_only};
use crate::jvp;
use crate::{Dual, LibtorchError};

/// Rounding through one operation, relative to the largest number: a few units in the last place of sums of up to
/// 40 · 40 terms.
fn tolerance(kind: Kind) -> f64 {
    if kind == Kind::Double { 1e-13 } else { 1e-5 }
}

/// Inputs of an operation, each with the tangent of its first rows, or with none.
struct Case {
    primals: Vec<Tensor>,
    tangents: Vec<Option<Tensor>>,
}

impl Case {
    /// The same numbers in every run: rare draws are far more sensitive to rounding than the others.
    fn new(kind: Kind, shapes: &[&[i64]], moving: &[bool], rows: i64) -> Self {
        let mut stream = RngStream::new(1, Purpose::Noise, 0);
        let mut normal = |shape: &[i64]| {
            let mut values = vec![0.0_f32; shape.iter().product::<i64>() as usize];
            stream.fill_normal(&mut values);
            Tensor::from_slice(&values).reshape(shape).to_kind(kind)
        };
        let primals = shapes.iter().map(|shape| normal(shape)).collect();
        let mut tangent = |shape: &[i64]| {
            let mut shape = shape.to_vec();
            shape[0] = rows;
            normal(&shape)
        };
        let tangents = shapes
            .iter()
            .zip(moving)
            .map(|(shape, moving)| moving.then(|| tangent(shape)))
            .collect();
        Self { primals, tangents }
    }

    /// Value, tangent, and the gradients of a fixed projection of the value.
    fn run(&self, operation: impl Fn(&[Dual]) -> Dual) -> Vec<Tensor> {
        let leaves: Vec<Tensor> = self
            .primals
            .iter()
            .map(|x| x.copy().set_requires_grad(true))
            .collect();
        let duals: Vec<Dual> = leaves
            .iter()
            .zip(&self.tangents)
            .map(|(x, dx)| match dx {
                Some(dx) => Dual::new(x.shallow_clone(), dx.shallow_clone()).unwrap(),
                None => x.shallow_clone().into(),
            })
            .collect();
        let (value, tangent) = operation(&duals).into_parts();
        // A projection whose gradient differs from element to element, and is the same for both routes: one made of the
        // values would carry their roundings, grown with their size, into every gradient.
        let places = Tensor::arange(value.numel() as i64, (value.kind(), Device::Cpu));
        let weight = (places * 1.7).sin().reshape(value.size());
        (&value * weight).sum(None::<Kind>).backward();
        let mut results = vec![value.detach()];
        results.extend(tangent);
        results.extend(leaves.iter().map(Tensor::grad));
        results
    }

    fn check(&self, operation: impl Fn(&[Dual]) -> Dual) {
        self.check_within(1.0, operation);
    }

    /// As [`Case::check`], with so many times the tolerance.
    fn check_within(&self, factor: f64, operation: impl Fn(&[Dual]) -> Dual) {
        let ours = self.run(&operation);
        let theirs = with_primitives_only(|| self.run(&operation));
        assert_eq!(ours.len(), theirs.len());
        let kind = self.primals[0].kind();
        for (position, (ours, theirs)) in ours.iter().zip(&theirs).enumerate() {
            assert_eq!(ours.size(), theirs.size(), "result {position}");
            let largest = theirs.abs().max().double_value(&[]).max(1.0);
            let error = (ours - theirs).abs().max().double_value(&[]) / largest;
            assert!(
                error < factor * tolerance(kind),
                "result {position}: {error:e}"
            );
        }
    }
}

const KINDS: [Kind; 2] = [Kind::Float, Kind::Double];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn linear(rows in 1_i64..40, inputs in 1_i64..40, outputs in 1_i64..40, bias: bool) {
        for kind in KINDS {
            let case = Case::new(kind, &[&[rows, 3, inputs], &[outputs, inputs], &[outputs]], &[true, false, false], rows / 2 + 1);
            if bias {
                case.check(|x| x[0].linear(x[1].primal(), Some(x[2].primal())));
            } else {
                // The bias takes part for its gradient's sake only.
                case.check(|x| x[0].linear(x[1].primal(), None).add_constant(x[2].primal()));
            }
        }
    }

    /// The CPU multiplies what was rounded and rounds nothing else: value, tangent and gradients are those of the rounded
    /// factors, to the roundings of sums in f32.
    #[test]
    fn rounded_linear(rows in 0_i64..40, inputs in 1_i64..40, outputs in 1_i64..40, turned: bool) {
        let round = |x: &Tensor| x.to_kind(Kind::BFloat16);
        for kind in KINDS {
            let shapes: [&[i64]; 4] = [&[rows, 3, inputs], &[outputs, inputs], &[outputs], &[rows, 3, outputs]];
            let case = Case::new(kind, &shapes, &[true, false, false, false], rows.min(2));
            let [x, weight, bias] = [0, 1, 2].map(|i| case.primals[i].copy().set_requires_grad(true));
            let step = case.tangents[0].as_ref().unwrap();
            // A state whose numbers do not lie side by side.
            let state = if turned { x.transpose(0, 1).contiguous().transpose(0, 1) } else { x.shallow_clone() };
            let map = RoundedLinear {
                weight: &weight,
                bias: &bias,
                rounded_weight: &round(&weight).detach(),
                rounded_bias: &round(&bias).detach(),
            };
            prop_assert!(super::serve_rounded(&weight, Kind::BFloat16) && !super::serve_rounded(&weight, kind));
            let (value, tangent) = Dual::new(state, step.shallow_clone()).unwrap().rounded_linear(&map).into_parts();
            let above = &case.primals[3];
            (&value * above).sum(None::<Kind>).backward();

            let exact = |x: &Tensor| round(x).to_kind(Kind::Double);
            let (w, g) = (exact(&weight), exact(above));
            let flat = |x: &Tensor, width| x.reshape([3 * rows, width]);
            let expected = [
                exact(&x).matmul(&w.tr()) + &bias,
                exact(step).matmul(&w.tr()),
                g.matmul(&w),
                flat(&g, outputs).tr().matmul(&flat(&exact(&x), inputs)),
                above.to_kind(Kind::Double).sum_dim_intlist([0_i64, 1].as_slice(), false, None::<Kind>),
            ];
            let got = [value.detach(), tangent.unwrap(), x.grad(), weight.grad(), bias.grad()];
            for (position, (got, expected)) in got.iter().zip(&expected).enumerate() {
                prop_assert_eq!(got.size(), expected.size(), "result {}", position);
                prop_assert_eq!(got.kind(), kind, "result {}", position);
                if got.numel() == 0 { continue; }
                let largest = expected.abs().max().double_value(&[]).max(1.0);
                let error = (got.to_kind(Kind::Double) - expected).abs().max().double_value(&[]) / largest;
                // Also of parameters in f64 the products are summed in f32.
                prop_assert!(error < tolerance(Kind::Float), "result {}: {:e}", position, error);
            }
        }
    }

    #[test]
    fn gelu(rows in 1_i64..5, width in 1_i64..70) {
        for kind in KINDS {
            Case::new(kind, &[&[rows, width]], &[true], 1).check(|x| x[0].gelu());
        }
    }

    #[test]
    fn norm_and_modulation(
        rows in 1_i64..5, tokens in 1_i64..6, width in 2_i64..70, moving in prop::array::uniform3(any::<bool>()),
    ) {
        for kind in KINDS {
            let case = Case::new(kind, &[&[rows, tokens, width], &[rows, 1, width], &[rows, 1, width]], &moving, rows / 2 + 1);
            // Derivatives of a norm grow as one over the deviation of a token, which is small by chance where there are few numbers,
            // and so do their roundings.
            let deviation = case.primals[0].std_dim(-1, false, false).min().double_value(&[]);
            case.check_within((1.0 / deviation).max(1.0), |x| x[0].norm_modulate(&x[1], &x[2], 1e-6, x[0].kind()));
        }
    }

    #[test]
    fn gated_sum(
        rows in 1_i64..5, tokens in 1_i64..6, width in 1_i64..70, moving in prop::array::uniform3(any::<bool>()),
    ) {
        for kind in KINDS {
            let case = Case::new(kind, &[&[rows, tokens, width], &[rows, 1, width], &[rows, tokens, width]], &moving, rows / 2 + 1);
            case.check(|x| x[0].add_gated(&x[1], &x[2]));
        }
    }

    #[test]
    fn self_attention(rows in 1_i64..4, tokens in 1_i64..40, heads in 1_i64..4, width in 1_i64..40) {
        for kind in KINDS {
            let case = Case::new(kind, &[&[rows, tokens, 3 * heads * width]], &[true], rows / 2 + 1);
            case.check(|x| x[0].self_attention(heads));
        }
    }
}

/// Parts of one modulation, as blocks use them: their rows are not side by side in memory.
#[test]
fn strided_modulations() {
    for kind in KINDS {
        let case = Case::new(kind, &[&[5, 3, 20], &[5, 60]], &[true, true], 2);
        case.check(|x| {
            let [shift, scale, gate] = x[1]
                .chunk(1)
                .map(|part| part.map_linear(|part| part.unsqueeze(1)));
            let normal = x[0].norm_modulate(&shift, &scale, 1e-6, kind);
            x[0].add_gated(&gate, &normal)
        });
    }
}

/// Scores of a thousand must neither overflow nor lose the probabilities, which feel a score's rounding in full.
#[test]
fn attention_of_large_scores() {
    for kind in KINDS {
        let mut case = Case::new(kind, &[&[2, 20, 3 * 16]], &[true], 2);
        case.primals[0] = &case.primals[0] * 20.0;
        case.check_within(1e3, |x| x[0].self_attention(1));
    }
}

/// Saturated GELUs: exp must not overflow where its argument is large.
#[test]
fn gelu_of_large_numbers() {
    for kind in KINDS {
        let mut case = Case::new(kind, &[&[4, 33]], &[true], 4);
        case.primals[0] = &case.primals[0] * 100.0;
        case.check(|x| x[0].gelu());
    }
}

/// Every kernel on `x [rows, 3, 24]`, among them products of few rows and of many.
fn all_kernels(x: &Tensor) -> Result<Vec<Tensor>, LibtorchError> {
    let matrix = Tensor::linspace(-1.0, 1.0, 24 * 24, (x.kind(), x.device())).reshape([24, 24]);
    let modulation = x.narrow(1, 0, 1);
    let normalized = super::norm_modulate(x, &modulation, &modulation, 1e-6, x.kind())?;
    let attended = super::self_attention(x, 2)?;
    Ok(vec![
        libtorch::linear(x, &matrix, None)?,
        super::gelu(x)?,
        super::add_gated(x, &modulation, x)?,
        normalized.value,
        normalized.means,
        normalized.rstds,
        attended.value,
        attended.logs,
    ])
}

#[test]
fn without_a_tape_the_bits_are_the_same() {
    for rows in [1, 7, 40] {
        let x = Tensor::randn([rows, 3, 24], (Kind::Float, Device::Cpu)).set_requires_grad(true);
        let (taped, plain) = (all_kernels(&x), no_grad(|| all_kernels(&x)));
        for (taped, plain) in taped.unwrap().iter().zip(&plain.unwrap()) {
            assert!(!plain.requires_grad());
            assert_eq!(&taped.detach(), plain, "{rows} rows");
        }
    }
}

/// A tangent of libtorch's own forward mode must not be lost.
#[test]
fn forward_mode_is_refused() {
    let x = Tensor::randn([2, 3, 24], (Kind::Float, Device::Cpu));
    let closure = |x: &[Tensor]| {
        let refused = no_grad(|| all_kernels(&x[0])).unwrap_err();
        assert!(refused.to_string().contains("jvp"), "{refused}");
        vec![]
    };
    jvp(closure, &[x.shallow_clone()], &[x]).unwrap();
}

#[test]
fn a_product_of_other_widths_is_refused() {
    for rows in [1, 8, 100] {
        let [x, weight] =
            [[rows, 5], [3, 4]].map(|size| Tensor::ones(size, (Kind::Float, Device::Cpu)));
        assert!(libtorch::linear(&x, &weight, None).is_err(), "{rows} rows");
    }
}

#[test]
fn a_second_derivative_is_refused_where_it_would_be_wrong() {
    let x = Tensor::randn([2, 8], (Kind::Float, Device::Cpu)).set_requires_grad(true);
    let y = Dual::from(x.shallow_clone()).gelu().into_parts().0;
    let refused = Tensor::f_run_backward(&[y.sum(None::<Kind>)], &[&x], true, true).unwrap_err();
    assert!(
        refused.to_string().contains("second derivative"),
        "{refused}"
    );
}
