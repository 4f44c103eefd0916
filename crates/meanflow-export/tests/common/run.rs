//! The nodes of a graph, computed one after the other as ONNX describes them: slow and plain, so that a graph can be checked without a runtime.

use std::collections::BTreeMap;

use meanflow_export::onnx::{Attribute, Graph, Node};
use meanflow_torch::{Kind, Tensor};

/// The output of a graph for these inputs.
pub(crate) fn run(graph: &Graph, inputs: &[(&str, Tensor)]) -> Tensor {
    let mut values: BTreeMap<String, Tensor> = BTreeMap::new();
    for one in &graph.initializers {
        values.insert(one.name.clone(), one.tensor.shallow_clone());
    }
    for (name, tensor) in inputs {
        values.insert((*name).to_owned(), tensor.shallow_clone());
    }
    for node in &graph.nodes {
        let operands = node.inputs.iter().map(|name| {
            let value = values.get(name);
            assert!(value.is_some() || name.is_empty(), "no value {name} yet");
            value
        });
        let operands: Vec<Option<&Tensor>> = operands.collect();
        let results = Call { node, operands }.compute();
        assert_eq!(results.len(), node.outputs.len(), "{}", node.name);
        for (name, result) in node.outputs.iter().zip(results) {
            assert!(
                values.insert(name.clone(), result).is_none(),
                "{name} is given twice"
            );
        }
    }
    values[&graph.outputs[0].name].shallow_clone()
}

struct Call<'a> {
    node: &'a Node,
    operands: Vec<Option<&'a Tensor>>,
}

impl Call<'_> {
    fn compute(&self) -> Vec<Tensor> {
        let x = self.operand(0);
        let result = match self.node.operator.as_str() {
            "Add" => x + self.operand(1),
            "Sub" => x - self.operand(1),
            "Mul" => x * self.operand(1),
            "Div" => x / self.operand(1),
            "Pow" => x.pow(self.operand(1)),
            "Max" => x.maximum(self.operand(1)),
            "Neg" => x.neg(),
            "Sin" => x.sin(),
            "Cos" => x.cos(),
            "Tanh" => x.tanh(),
            "Sigmoid" => x.sigmoid(),
            "MatMul" => x.matmul(self.operand(1)),
            "Gemm" => self.gemm(x),
            "Transpose" => x.permute(self.ints("perm")),
            "Reshape" => self.reshape(x),
            "Unsqueeze" => x.unsqueeze(self.values(1)[0]),
            "Squeeze" => x.squeeze_dim(self.values(1)[0]),
            "Concat" => Tensor::cat(
                &self.operands.iter().copied().flatten().collect::<Vec<_>>(),
                self.int("axis"),
            ),
            "Split" => return x.split_with_sizes(self.values(1), self.int("axis")),
            "Gather" => self.gather(x),
            "Slice" => self.slice(x),
            "Tile" => x.repeat(self.values(1)),
            "Softmax" => x.softmax(self.int("axis"), x.kind()),
            "LayerNormalization" => self.layer_norm(x),
            "InstanceNormalization" => self.instance_norm(x),
            "Conv" | "ConvTranspose" => self.convolution(x),
            "Pad" => self.pad(x),
            "Resize" => self.resize(x),
            other => panic!("{}: no operator {other} in this test", self.node.name),
        };
        vec![result]
    }

    fn operand(&self, place: usize) -> &Tensor {
        self.optional(place)
            .unwrap_or_else(|| panic!("{}: no operand {place}", self.node.name))
    }

    fn optional(&self, place: usize) -> Option<&Tensor> {
        self.operands.get(place).copied().flatten()
    }

    /// The integers of an operand.
    fn values(&self, place: usize) -> Vec<i64> {
        let operand = self.operand(place);
        assert_eq!(operand.kind(), Kind::Int64, "{}", self.node.name);
        Vec::<i64>::try_from(operand.reshape([-1])).unwrap()
    }

    fn attribute(&self, name: &str) -> &Attribute {
        let found = self.node.attributes.iter().find(|(known, _)| known == name);
        &found
            .unwrap_or_else(|| panic!("{}: no {name}", self.node.name))
            .1
    }

    fn int(&self, name: &str) -> i64 {
        match self.attribute(name) {
            Attribute::Int(value) => *value,
            other => panic!("{}: {name} is {other:?}", self.node.name),
        }
    }

    fn ints(&self, name: &str) -> Vec<i64> {
        match self.attribute(name) {
            Attribute::Ints(values) => values.clone(),
            other => panic!("{}: {name} is {other:?}", self.node.name),
        }
    }

    fn epsilon(&self) -> f64 {
        match self.attribute("epsilon") {
            Attribute::Float(value) => f64::from(*value),
            other => panic!("{}: epsilon is {other:?}", self.node.name),
        }
    }

    fn gemm(&self, x: &Tensor) -> Tensor {
        assert_eq!((x.dim(), self.int("transB")), (2, 1));
        let product = x.matmul(&self.operand(1).transpose(0, 1));
        match self.optional(2) {
            Some(bias) => product + bias,
            None => product,
        }
    }

    /// 0 is the size that the input has there.
    fn reshape(&self, x: &Tensor) -> Tensor {
        let before = x.size();
        let sizes = self.values(1).into_iter().enumerate();
        let sizes: Vec<i64> = sizes
            .map(|(place, size)| if size == 0 { before[place] } else { size })
            .collect();
        x.reshape(sizes)
    }

    fn gather(&self, x: &Tensor) -> Tensor {
        let (axis, indices) = (self.int("axis"), self.operand(1));
        let rows = x.index_select(axis, &indices.reshape([-1]));
        match indices.dim() {
            0 => rows.squeeze_dim(axis),
            _ => rows,
        }
    }

    fn slice(&self, x: &Tensor) -> Tensor {
        let [starts, ends, axes, steps] = [1, 2, 3, 4].map(|place| self.values(place));
        let mut result = x.shallow_clone();
        for place in 0..axes.len() {
            let size = result.size()[axes[place] as usize];
            let places: Vec<i64> = match steps[place] {
                1 => (starts[place]..ends[place].min(size)).collect(),
                -1 if (starts[place], ends[place]) == (-1, i64::MIN) => (0..size).rev().collect(),
                other => panic!("{}: a step of {other}", self.node.name),
            };
            result = result.index_select(axes[place], &Tensor::from_slice(&places));
        }
        result
    }

    /// With mean 0 and variance 1 over these dimensions.
    fn normal(&self, x: &Tensor, dims: &[i64]) -> Tensor {
        let centred = x - x.mean_dim(dims, true, None::<Kind>);
        let variance = centred.square().mean_dim(dims, true, None::<Kind>);
        centred / (variance + self.epsilon()).sqrt()
    }

    fn layer_norm(&self, x: &Tensor) -> Tensor {
        assert_eq!(self.int("axis"), -1);
        let normal = self.normal(x, &[-1]) * self.operand(1);
        match self.optional(2) {
            Some(bias) => normal + bias,
            None => normal,
        }
    }

    fn instance_norm(&self, x: &Tensor) -> Tensor {
        let places: Vec<i64> = (2..x.dim() as i64).collect();
        let column = |affine: &Tensor| affine.reshape([-1, 1]);
        self.normal(x, &places) * column(self.operand(1)) + column(self.operand(2))
    }

    fn convolution(&self, x: &Tensor) -> Tensor {
        let (weight, bias) = (self.operand(1), self.optional(2));
        let [strides, pads, dilations] = ["strides", "pads", "dilations"].map(|of| self.ints(of));
        assert_eq!(pads[..2], pads[2..], "{}: pads", self.node.name);
        let (pads, group) = (&pads[..2], self.int("group"));
        if self.node.operator == "Conv" {
            return x.conv2d(weight, bias, strides, pads, dilations, group);
        }
        let more = self.ints("output_padding");
        x.conv_transpose2d(weight, bias, strides, pads, more, group, dilations)
    }

    fn pad(&self, x: &Tensor) -> Tensor {
        let pads = self.values(1);
        let rank = x.dim();
        let pairs = (0..rank)
            .rev()
            .flat_map(|dim| [pads[dim], pads[rank + dim]]);
        x.constant_pad_nd(pairs.collect::<Vec<_>>())
    }

    fn resize(&self, x: &Tensor) -> Tensor {
        let size = x.size();
        let scales = Vec::<f32>::try_from(self.operand(2)).unwrap();
        let after = [2, 3].map(|dim| (size[dim] as f32 * scales[dim]) as i64);
        x.upsample_nearest2d(after, None, None)
    }
}
