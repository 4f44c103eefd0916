//! Each operation of libtorch as nodes of ONNX that do the same.

use std::f64::consts::FRAC_2_PI;

use meanflow_torch::Kind;

use super::convert::{Call, Operand};
use super::graph::data_type;
use crate::ExportError;

type Done = Result<(), ExportError>;

/// Operations of one tensor that ONNX has under another name.
const UNARY: [(&str, &str); 12] = [
    ("aten::abs", "Abs"),
    ("aten::cos", "Cos"),
    ("aten::erf", "Erf"),
    ("aten::exp", "Exp"),
    ("aten::log", "Log"),
    ("aten::neg", "Neg"),
    ("aten::reciprocal", "Reciprocal"),
    ("aten::relu", "Relu"),
    ("aten::sigmoid", "Sigmoid"),
    ("aten::sin", "Sin"),
    ("aten::sqrt", "Sqrt"),
    ("aten::tanh", "Tanh"),
];

/// Adds the nodes of an operation.
///
/// # Errors
/// For an operation, or a way of calling it, that is not known here.
pub(super) fn convert(call: &mut Call<'_, '_>) -> Done {
    let name = call.operation.name.clone();
    if let Some((_, operator)) = UNARY.iter().find(|(known, _)| *known == name) {
        let x = call.tensor(0)?;
        return call.gives_node(operator, &[&x.name], vec![]);
    }
    match name.as_str() {
        "aten::contiguous" | "aten::detach" | "aten::clone" | "aten::alias" => {
            let x = call.tensor(0)?;
            call.gives(x.name)
        }
        "aten::to" | "aten::_to_copy" => cast(call),
        "aten::add" => arithmetic(call, "Add"),
        "aten::sub" => arithmetic(call, "Sub"),
        "aten::mul" => arithmetic(call, "Mul"),
        "aten::div" => arithmetic(call, "Div"),
        "aten::pow" => arithmetic(call, "Pow"),
        "aten::clamp_min" => arithmetic(call, "Max"),
        "aten::addcmul" => addcmul(call),
        "aten::silu" => silu(call),
        "aten::gelu" => gelu(call),
        "aten::softmax" | "aten::_softmax" => softmax(call),
        "aten::matmul" | "aten::bmm" => {
            let (x, y) = (call.tensor(0)?, call.tensor(1)?);
            call.gives_node("MatMul", &[&x.name, &y.name], vec![])
        }
        "aten::linear" => linear(call),
        "aten::embedding" => {
            let (table, labels) = (call.tensor(0)?, call.tensor(1)?);
            call.gives_node(
                "Gather",
                &[&table.name, &labels.name],
                vec![("axis", 0_i64.into())],
            )
        }
        "aten::native_layer_norm" | "aten::layer_norm" => layer_norm(call),
        "aten::native_group_norm" => group_norm(call),
        "aten::_convolution" => convolution(call),
        "aten::upsample_nearest2d" => upsample(call),
        "aten::constant_pad_nd" => pad(call),
        "aten::mean" => mean(call),
        other => shape(call, other),
    }
}

/// Operations that move numbers without computing.
fn shape(call: &mut Call<'_, '_>, name: &str) -> Done {
    match name {
        "aten::view" | "aten::reshape" => {
            let sizes = call.ints(1)?;
            reshape(call, &sizes)
        }
        "aten::flatten" => flatten(call),
        "aten::permute" => {
            let dims = call.ints(1)?;
            permute(call, &dims)
        }
        "aten::transpose" => {
            let x = call.tensor(0)?;
            let (one, other) = (x.dim(call.int(1)?), x.dim(call.int(2)?));
            let mut dims: Vec<i64> = (0..x.rank()).collect();
            dims.swap(one as usize, other as usize);
            permute(call, &dims)
        }
        "aten::t" => permute(call, &[1, 0]),
        "aten::unsqueeze" => {
            let x = call.tensor(0)?;
            let dim = call.int(1)?;
            let dim = if dim < 0 { dim + x.rank() + 1 } else { dim };
            with_axes(call, "Unsqueeze", &x, &[dim])
        }
        "aten::squeeze" => {
            let x = call.tensor(0)?;
            let dim = x.dim(call.int(1)?);
            match x.sizes[dim as usize] {
                1 => with_axes(call, "Squeeze", &x, &[dim]),
                _ => call.gives(x.name),
            }
        }
        "aten::expand" => expand(call),
        "aten::repeat" | "aten::tile" => repeat(call),
        other => parts(call, other),
    }
}

/// Operations that put tensors together or take parts of one.
fn parts(call: &mut Call<'_, '_>, name: &str) -> Done {
    match name {
        "aten::cat" => {
            let parts = call.tensors(0)?;
            let dim = parts
                .first()
                .map_or(0, |part| part.dim(call.int(1).unwrap_or(0)));
            let names: Vec<&str> = parts.iter().map(|part| &*part.name).collect();
            call.gives_node("Concat", &names, vec![("axis", dim.into())])
        }
        "aten::chunk" => {
            let x = call.tensor(0)?;
            let dim = x.dim(call.int(2)?);
            call.gives_parts(x, dim);
            Ok(())
        }
        "prim::ListUnpack" => call.unpacks(),
        "aten::select" => {
            let x = call.tensor(0)?;
            let (dim, index) = (x.dim(call.int(1)?), call.int(2)?);
            let index = call.converter.constant(&[index as f64], &[], Kind::Int64);
            call.gives_node("Gather", &[&x.name, &index], vec![("axis", dim.into())])
        }
        "aten::narrow" => {
            let (start, length) = (call.int(2)?, call.int(3)?);
            let dim = call.int(1)?;
            slice(call, &[dim], [start, start + length, 1])
        }
        "aten::flip" => {
            let dims = call.ints(1)?;
            slice(call, &dims, [-1, i64::MIN, -1])
        }
        _ => Err(call.refused("has no ONNX node here")),
    }
}

fn cast(call: &mut Call<'_, '_>) -> Done {
    let (x, (kind, _)) = (call.tensor(0)?, call.result()?);
    if x.kind == kind {
        return call.gives(x.name);
    }
    let number = data_type(kind).ok_or_else(|| call.refused(format!("to {kind:?}")))?;
    call.gives_node("Cast", &[&x.name], vec![("to", number.into())])
}

/// Two tensors, or a tensor and a number; a factor of the second other than 1 (`alpha`) is refused.
fn arithmetic(call: &mut Call<'_, '_>, operator: &str) -> Done {
    let has_alpha = ["Add", "Sub"].contains(&operator);
    let third = call.number(2);
    if has_alpha && third.is_some_and(|alpha| alpha != 1.0)
        || !has_alpha && call.operation.arguments.len() > 2
    {
        return Err(call.refused("with a factor or a way of rounding"));
    }
    let x = call.tensor(0)?;
    let y = call.factor(1, x.kind)?;
    call.gives_node(operator, &[&x.name, &y], vec![])
}

fn addcmul(call: &mut Call<'_, '_>) -> Done {
    if call.number(3).is_some_and(|value| value != 1.0) {
        return Err(call.refused("with a factor"));
    }
    let (x, one, other) = (call.tensor(0)?, call.tensor(1)?, call.tensor(2)?);
    let product = call.node("Mul", &[&one.name, &other.name], vec![]);
    call.gives_node("Add", &[&x.name, &product], vec![])
}

fn silu(call: &mut Call<'_, '_>) -> Done {
    let x = call.tensor(0)?;
    let gate = call.node("Sigmoid", &[&x.name], vec![]);
    call.gives_node("Mul", &[&x.name, &gate], vec![])
}

/// `½ x (1 + tanh(√(2/π) (x + 0.044715 x³)))`: the operator of ONNX came later than [`OPSET`](super::OPSET).
fn gelu(call: &mut Call<'_, '_>) -> Done {
    if call.word(1).as_deref() != Some("tanh") {
        return Err(call.refused("in another form than the one with tanh"));
    }
    let x = call.tensor(0)?;
    let [three, cubic, scale, one, half] = [3.0, 0.044_715, FRAC_2_PI.sqrt(), 1.0, 0.5]
        .map(|number| call.converter.constant(&[number], &[], x.kind));
    let cube = call.node("Pow", &[&x.name, &three], vec![]);
    let cube = call.node("Mul", &[&cube, &cubic], vec![]);
    let sum = call.node("Add", &[&x.name, &cube], vec![]);
    let inner = call.node("Mul", &[&sum, &scale], vec![]);
    let tanh = call.node("Tanh", &[&inner], vec![]);
    let gate = call.node("Add", &[&tanh, &one], vec![]);
    let product = call.node("Mul", &[&x.name, &gate], vec![]);
    call.gives_node("Mul", &[&product, &half], vec![])
}

fn softmax(call: &mut Call<'_, '_>) -> Done {
    let (x, (kind, _)) = (call.tensor(0)?, call.result()?);
    if x.kind != kind {
        return Err(call.refused(format!("of {:?} in {kind:?}", x.kind)));
    }
    let dim = x.dim(call.int(1)?);
    call.gives_node("Softmax", &[&x.name], vec![("axis", dim.into())])
}

/// `x Wᵀ + b`.
fn linear(call: &mut Call<'_, '_>) -> Done {
    let (x, weight, bias) = (call.tensor(0)?, call.tensor(1)?, call.optional(2)?);
    if x.rank() == 2 {
        let mut inputs = vec![&*x.name, &*weight.name];
        inputs.extend(bias.as_ref().map(|bias| &*bias.name));
        return call.gives_node("Gemm", &inputs, vec![("transB", 1_i64.into())]);
    }
    let turned = call.node(
        "Transpose",
        &[&weight.name],
        vec![("perm", vec![1_i64, 0].into())],
    );
    let mut y = call.node("MatMul", &[&x.name, &turned], vec![]);
    if let Some(bias) = bias {
        y = call.node("Add", &[&y, &bias.name], vec![]);
    }
    call.gives(y)
}

fn layer_norm(call: &mut Call<'_, '_>) -> Done {
    let (x, sizes) = (call.tensor(0)?, call.ints(1)?);
    let (weight, bias) = (call.optional(2)?, call.optional(3)?);
    let epsilon = call.number(4).unwrap_or(1e-5) as f32;
    let ones = vec![1.0; sizes.iter().product::<i64>() as usize];
    let weight = match weight {
        Some(weight) => weight.name,
        None => call.converter.constant(&ones, &sizes, x.kind),
    };
    let mut inputs = vec![&*x.name, &*weight];
    inputs.extend(bias.as_ref().map(|bias| &*bias.name));
    let axis = -(sizes.len() as i64);
    call.gives_node(
        "LayerNormalization",
        &inputs,
        vec![("axis", axis.into()), ("epsilon", epsilon.into())],
    )
}

/// Each group as an instance of its own, then the affine part a channel: ONNX's own operator came later, and had its affine part a group.
fn group_norm(call: &mut Call<'_, '_>) -> Done {
    let (x, weight, bias) = (call.tensor(0)?, call.optional(1)?, call.optional(2)?);
    let (channels, groups) = (call.int(4)?, call.int(6)?);
    let epsilon = call.number(7).unwrap_or(1e-5) as f32;
    let grouped = call.converter.ints(&[0, groups, -1]);
    let grouped = call.node("Reshape", &[&x.name, &grouped], vec![]);
    let count = groups as usize;
    let ones = call
        .converter
        .constant(&vec![1.0; count], &[groups], x.kind);
    let zeros = call
        .converter
        .constant(&vec![0.0; count], &[groups], x.kind);
    let normal = call.node(
        "InstanceNormalization",
        &[&grouped, &ones, &zeros],
        vec![("epsilon", epsilon.into())],
    );
    let mut sizes = x.sizes.clone();
    sizes[0] = 0;
    let whole = call.converter.ints(&sizes);
    let mut y = call.node("Reshape", &[&normal, &whole], vec![]);
    let mut column = vec![1; sizes.len() - 1];
    column[0] = channels;
    let column = call.converter.ints(&column);
    for (operator, affine) in [("Mul", weight), ("Add", bias)] {
        if let Some(affine) = affine {
            let affine = call.node("Reshape", &[&affine.name, &column], vec![]);
            y = call.node(operator, &[&y, &affine], vec![]);
        }
    }
    call.gives(y)
}

fn convolution(call: &mut Call<'_, '_>) -> Done {
    let (x, weight, bias) = (call.tensor(0)?, call.tensor(1)?, call.optional(2)?);
    let (strides, padding, dilations) = (call.ints(3)?, call.ints(4)?, call.ints(5)?);
    let (is_transposed, output_padding, group) = (call.flag(6), call.ints(7)?, call.int(8)?);
    let mut attributes = vec![
        ("strides", strides.into()),
        ("pads", [&padding[..], &padding[..]].concat().into()),
        ("dilations", dilations.into()),
        ("group", group.into()),
    ];
    let operator = if is_transposed {
        attributes.push(("output_padding", output_padding.into()));
        "ConvTranspose"
    } else {
        "Conv"
    };
    let mut inputs = vec![&*x.name, &*weight.name];
    inputs.extend(bias.as_ref().map(|bias| &*bias.name));
    call.gives_node(operator, &inputs, attributes)
}

fn upsample(call: &mut Call<'_, '_>) -> Done {
    let (x, (_, after)) = (call.tensor(0)?, call.result()?);
    let scales: Vec<f64> = x
        .sizes
        .iter()
        .zip(&after)
        .map(|(before, after)| *after as f64 / *before as f64)
        .collect();
    let scales = call.converter.constant(&scales, &[x.rank()], Kind::Float);
    let attributes = vec![
        ("mode", "nearest".into()),
        ("coordinate_transformation_mode", "asymmetric".into()),
        ("nearest_mode", "floor".into()),
    ];
    call.gives_node("Resize", &[&x.name, "", &scales], attributes)
}

/// libtorch names both ends of the last dimension first; ONNX all beginnings, then all ends.
fn pad(call: &mut Call<'_, '_>) -> Done {
    let (x, pairs) = (call.tensor(0)?, call.ints(1)?);
    let rank = x.rank() as usize;
    let mut pads = vec![0; 2 * rank];
    for (place, pair) in pairs.chunks(2).enumerate() {
        pads[rank - 1 - place] = pair[0];
        pads[2 * rank - 1 - place] = pair[1];
    }
    let pads = call.converter.ints(&pads);
    let value = call.factor(2, x.kind)?;
    call.gives_node("Pad", &[&x.name, &pads, &value], vec![])
}

fn mean(call: &mut Call<'_, '_>) -> Done {
    let (x, dims) = (call.tensor(0)?, call.ints(1)?);
    let keep = i64::from(call.flag(2));
    call.gives_node(
        "ReduceMean",
        &[&x.name],
        vec![("axes", dims.into()), ("keepdims", keep.into())],
    )
}

fn reshape(call: &mut Call<'_, '_>, sizes: &[i64]) -> Done {
    let x = call.tensor(0)?;
    let sizes = call.converter.ints(sizes);
    call.gives_node("Reshape", &[&x.name, &sizes], vec![])
}

/// Sizes before the first joined dimension stay, those behind it are known.
fn flatten(call: &mut Call<'_, '_>) -> Done {
    let (x, (_, after)) = (call.tensor(0)?, call.result()?);
    let first = x.dim(call.int(1)?) as usize;
    if after == x.sizes {
        return call.gives(x.name);
    }
    let mut sizes = vec![0; first];
    sizes.push(-1);
    sizes.extend(&after[first + 1..]);
    reshape(call, &sizes)
}

fn permute(call: &mut Call<'_, '_>, dims: &[i64]) -> Done {
    let x = call.tensor(0)?;
    let dims: Vec<i64> = dims.iter().map(|dim| x.dim(*dim)).collect();
    call.gives_node("Transpose", &[&x.name], vec![("perm", dims.into())])
}

fn with_axes(call: &mut Call<'_, '_>, operator: &str, x: &Operand, axes: &[i64]) -> Done {
    let axes = call.converter.ints(axes);
    call.gives_node(operator, &[&x.name, &axes], vec![])
}

/// The same part of each of these dimensions: `[start, end, step]`.
fn slice(call: &mut Call<'_, '_>, dims: &[i64], range: [i64; 3]) -> Done {
    let x = call.tensor(0)?;
    let dims: Vec<i64> = dims.iter().map(|dim| x.dim(*dim)).collect();
    let [starts, ends, steps] = range.map(|number| call.converter.ints(&vec![number; dims.len()]));
    let axes = call.converter.ints(&dims);
    call.gives_node("Slice", &[&x.name, &starts, &ends, &axes, &steps], vec![])
}

/// A size that stays is 1 in ONNX; one that becomes the batch cannot be said.
fn expand(call: &mut Call<'_, '_>) -> Done {
    let (x, sizes, (_, after)) = (call.tensor(0)?, call.ints(1)?, call.result()?);
    let added = after.len() - x.sizes.len();
    let mut wanted = Vec::with_capacity(sizes.len());
    for (place, size) in sizes.iter().enumerate() {
        let before = place.checked_sub(added).map_or(1, |place| x.sizes[place]);
        match size {
            -1 if before == after[place] => wanted.push(1),
            -1 => return Err(call.refused("to as many as there are rows")),
            size => wanted.push(*size),
        }
    }
    let wanted = call.converter.ints(&wanted);
    call.gives_node("Expand", &[&x.name, &wanted], vec![])
}

/// Counts and dimensions may be missing in front, where they are 1.
fn repeat(call: &mut Call<'_, '_>) -> Done {
    let (x, counts) = (call.tensor(0)?, call.ints(1)?);
    if counts.contains(&-1) {
        return Err(call.refused("as often as there are rows"));
    }
    let rank = counts.len().max(x.sizes.len());
    let filled = [vec![1; rank - counts.len()], counts].concat();
    let mut name = x.name;
    let missing: Vec<i64> = (0..(rank - x.sizes.len()) as i64).collect();
    if !missing.is_empty() {
        let axes = call.converter.ints(&missing);
        name = call.node("Unsqueeze", &[&name, &axes], vec![]);
    }
    let filled = call.converter.ints(&filled);
    call.gives_node("Tile", &[&name, &filled], vec![])
}
