//! A graph of ONNX, in memory.

use meanflow_torch::{Kind, Tensor};

/// The version of ONNX's operators.
pub const OPSET: i64 = 17;

/// A graph: nodes in an order in which they can be computed.
#[derive(Debug)]
pub struct Graph {
    /// Its inputs.
    pub inputs: Vec<Port>,
    /// Its outputs.
    pub outputs: Vec<Port>,
    /// Tensors with fixed values: weights and constants.
    pub initializers: Vec<Initializer>,
    /// The operations.
    pub nodes: Vec<Node>,
    /// Free text by key.
    pub metadata: Vec<(String, String)>,
}

/// An input or output.
#[derive(Clone, Debug, PartialEq)]
pub struct Port {
    /// Its name.
    pub name: String,
    /// The dtype of its numbers.
    pub kind: Kind,
    /// Its sizes; none of the dimension `batch`, which is free.
    pub shape: Vec<Option<i64>>,
}

/// A tensor with fixed values.
#[derive(Debug)]
pub struct Initializer {
    /// Its name.
    pub name: String,
    /// Its values, on the CPU.
    pub tensor: Tensor,
}

/// An operation of ONNX.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Its name, which no other node has.
    pub name: String,
    /// What it does, such as `MatMul`.
    pub operator: String,
    /// Names of values; an empty name stands for one that is left out.
    pub inputs: Vec<String>,
    /// Names of what it gives.
    pub outputs: Vec<String>,
    /// Its settings.
    pub attributes: Vec<(String, Attribute)>,
}

/// A setting of a node.
#[derive(Clone, Debug, PartialEq)]
pub enum Attribute {
    /// An integer.
    Int(i64),
    /// A number.
    Float(f32),
    /// A word.
    Text(String),
    /// Several integers.
    Ints(Vec<i64>),
}

impl From<i64> for Attribute {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

impl From<f32> for Attribute {
    fn from(value: f32) -> Self {
        Self::Float(value)
    }
}

impl From<&str> for Attribute {
    fn from(value: &str) -> Self {
        Self::Text(value.to_owned())
    }
}

impl From<Vec<i64>> for Attribute {
    fn from(value: Vec<i64>) -> Self {
        Self::Ints(value)
    }
}

/// ONNX's number of a dtype; none of one that is not exported.
pub(super) fn data_type(kind: Kind) -> Option<i64> {
    match kind {
        Kind::Float => Some(1),
        Kind::Int64 => Some(7),
        Kind::Bool => Some(9),
        Kind::Double => Some(11),
        _ => None,
    }
}
