//! From libtorch's operations to ONNX's nodes: names, constants, and the graph as a whole.

use std::collections::{BTreeMap, BTreeSet};

use meanflow_libtorch::trace::{Argument, Operation, TracedValue};
use meanflow_torch::sampler::Traced;
use meanflow_torch::{Device, Kind, Tensor};

use super::graph::{Attribute, Graph, Initializer, Node, Port, data_type};
use crate::ExportError;

/// A tensor of the graph.
#[derive(Clone, Debug)]
pub(super) struct Operand {
    /// Its name.
    pub(super) name: String,
    /// Its dtype.
    pub(super) kind: Kind,
    /// Its sizes for two rows.
    pub(super) sizes: Vec<i64>,
}

impl Operand {
    /// The number of its dimensions.
    pub(super) fn rank(&self) -> i64 {
        self.sizes.len() as i64
    }

    /// A dimension counted from the front, of one that may be counted from the back.
    pub(super) fn dim(&self, dim: i64) -> i64 {
        if dim < 0 { dim + self.rank() } else { dim }
    }
}

/// A graph that is being made.
#[derive(Default)]
pub(super) struct Converter<'a> {
    constants: &'a [Tensor],
    /// By libtorch's numbers.
    values: BTreeMap<usize, Operand>,
    /// Parts that a tensor is cut into along a dimension, by the number of their list.
    lists: BTreeMap<usize, (Operand, i64)>,
    nodes: Vec<Node>,
    /// Weights first, by name.
    initializers: Vec<Initializer>,
    /// The names of small constants, by what they hold.
    known: BTreeMap<String, String>,
}

impl<'a> Converter<'a> {
    pub(super) fn new(traced: &'a Traced) -> Result<Self, ExportError> {
        let mut converter = Self {
            constants: &traced.trace.constants,
            ..Self::default()
        };
        let inputs = traced.trace.inputs.iter().zip(&traced.inputs);
        for (place, (value, (name, tensor))) in inputs.enumerate() {
            let operand = operand(name.clone(), tensor)?;
            converter.values.insert(value.number, operand);
            if place >= traced.free {
                converter.store(name.clone(), host(tensor));
            }
        }
        Ok(converter)
    }

    /// Adds a node with one result; the name of that.
    pub(super) fn node(
        &mut self,
        operator: &str,
        inputs: &[&str],
        attributes: Vec<(&str, Attribute)>,
    ) -> String {
        self.node_of(operator, inputs, 1, attributes).remove(0)
    }

    /// Adds a node with so many results; their names.
    pub(super) fn node_of(
        &mut self,
        operator: &str,
        inputs: &[&str],
        results: usize,
        attributes: Vec<(&str, Attribute)>,
    ) -> Vec<String> {
        let name = format!("{operator}_{}", self.nodes.len());
        let outputs: Vec<String> = match results {
            1 => vec![name.clone()],
            _ => (0..results)
                .map(|result| format!("{name}_{result}"))
                .collect(),
        };
        self.nodes.push(Node {
            name,
            operator: operator.to_owned(),
            inputs: inputs.iter().map(|input| (*input).to_owned()).collect(),
            outputs: outputs.clone(),
            attributes: attributes
                .into_iter()
                .map(|(key, value)| (key.to_owned(), value))
                .collect(),
        });
        outputs
    }

    /// The name of a constant, which is stored once for all its uses; `values` with `sizes` in this dtype.
    pub(super) fn constant(&mut self, values: &[f64], sizes: &[i64], kind: Kind) -> String {
        let key = format!("{values:?} {sizes:?} {kind:?}");
        self.once(key, || {
            Tensor::from_slice(values).to_kind(kind).reshape(sizes)
        })
    }

    /// The name of a list of integers.
    pub(super) fn ints(&mut self, values: &[i64]) -> String {
        self.once(format!("{values:?}"), || Tensor::from_slice(values))
    }

    /// The name of a constant, which is stored when it is asked for first.
    fn once(&mut self, key: String, tensor: impl FnOnce() -> Tensor) -> String {
        if let Some(name) = self.known.get(&key) {
            return name.clone();
        }
        let name = format!("constant_{}", self.initializers.len());
        self.store(name.clone(), tensor());
        self.known.insert(key, name.clone());
        name
    }

    fn store(&mut self, name: String, tensor: Tensor) {
        self.initializers.push(Initializer { name, tensor });
    }

    /// The constant tensor of a record.
    fn recorded(&mut self, index: usize) -> Result<Operand, ExportError> {
        let tensor = host(&self.constants[index]);
        let name = self.once(format!("recorded {index}"), || tensor.shallow_clone());
        operand(name, &tensor)
    }

    pub(super) fn finish(self, traced: &Traced, output: &str) -> Result<Graph, ExportError> {
        let (mut nodes, mut initializers) = (self.nodes, self.initializers);
        let last = match &traced.trace.outputs[..] {
            [Argument::Value(number)] => self.values.get(number),
            _ => None,
        };
        let last = last.ok_or_else(|| ExportError::Graph("the record has no output".to_owned()))?;
        for node in &mut nodes {
            for name in node.inputs.iter_mut().chain(&mut node.outputs) {
                if *name == last.name {
                    output.clone_into(name);
                }
            }
        }
        let used: BTreeSet<&String> = nodes.iter().flat_map(|node| &node.inputs).collect();
        initializers.retain(|one| used.contains(&one.name));
        let inputs = traced.inputs[..traced.free].iter();
        let inputs = inputs.map(|(name, tensor)| port(name, tensor.kind(), &tensor.size()));
        Ok(Graph {
            inputs: inputs.collect(),
            outputs: vec![port(output, last.kind, &last.sizes)],
            initializers,
            nodes,
            metadata: Vec::new(),
        })
    }
}

/// A port of which the first dimension is the batch.
fn port(name: &str, kind: Kind, sizes: &[i64]) -> Port {
    let shape = sizes
        .iter()
        .enumerate()
        .map(|(dim, size)| (dim > 0).then_some(*size));
    Port {
        name: name.to_owned(),
        kind,
        shape: shape.collect(),
    }
}

fn operand(name: String, tensor: &Tensor) -> Result<Operand, ExportError> {
    let kind = tensor.kind();
    if data_type(kind).is_none() {
        return Err(ExportError::Graph(format!(
            "{name}: a tensor of {kind:?}, which is not exported"
        )));
    }
    Ok(Operand {
        name,
        kind,
        sizes: tensor.size(),
    })
}

fn host(tensor: &Tensor) -> Tensor {
    tensor.detach().to_device(Device::Cpu).contiguous()
}

/// One operation, whose arguments are asked for by their places.
pub(super) struct Call<'a, 'b> {
    pub(super) converter: &'a mut Converter<'b>,
    pub(super) operation: &'a Operation,
}

impl Call<'_, '_> {
    /// Why the operation cannot be exported.
    pub(super) fn refused(&self, problem: impl Into<String>) -> ExportError {
        ExportError::Operation {
            operation: self.operation.name.clone(),
            problem: problem.into(),
        }
    }

    fn argument(&self, place: usize) -> Argument {
        let argument = self.operation.arguments.get(place);
        argument.cloned().unwrap_or(Argument::None)
    }

    /// Why an argument cannot be used: what should stand at its place, and what does.
    fn unexpected(&self, expected: &str, place: usize, got: &Argument) -> ExportError {
        self.refused(format!(
            "expected {expected} as argument {place}, got {got:?}"
        ))
    }

    /// A tensor.
    pub(super) fn tensor(&mut self, place: usize) -> Result<Operand, ExportError> {
        match self.argument(place) {
            Argument::Value(number) => {
                let value = self.converter.values.get(&number).cloned();
                value.ok_or_else(|| {
                    self.refused(format!(
                        "argument {place} is none of the values that are exported"
                    ))
                })
            }
            Argument::Constant(index) => self.converter.recorded(index),
            got => Err(self.unexpected("a tensor", place, &got)),
        }
    }

    /// A tensor that may be left out.
    pub(super) fn optional(&mut self, place: usize) -> Result<Option<Operand>, ExportError> {
        match self.argument(place) {
            Argument::None => Ok(None),
            _ => self.tensor(place).map(Some),
        }
    }

    /// Tensors of a list.
    pub(super) fn tensors(&mut self, place: usize) -> Result<Vec<Operand>, ExportError> {
        let Argument::List(items) = self.argument(place) else {
            return Err(self.refused("expected a list of tensors"));
        };
        let named = items.into_iter().map(|item| match item {
            Argument::Value(number) => self.converter.values.get(&number).cloned(),
            Argument::Constant(index) => self.converter.recorded(index).ok(),
            _ => None,
        });
        let named: Option<Vec<Operand>> = named.collect();
        named.ok_or_else(|| self.refused("expected a list of tensors"))
    }

    /// The name of a number or of a tensor of this dtype.
    pub(super) fn factor(&mut self, place: usize, kind: Kind) -> Result<String, ExportError> {
        if let Some(number) = self.number(place) {
            return Ok(self.converter.constant(&[number], &[], kind));
        }
        let tensor = self.tensor(place)?;
        if tensor.kind == kind {
            return Ok(tensor.name);
        }
        Err(self.refused(format!("tensors of {kind:?} and {:?} at once", tensor.kind)))
    }

    /// A number, if there is one.
    pub(super) fn number(&self, place: usize) -> Option<f64> {
        match self.argument(place) {
            Argument::Int(value) => Some(value as f64),
            Argument::Float(value) => Some(value),
            _ => None,
        }
    }

    /// An integer.
    pub(super) fn int(&self, place: usize) -> Result<i64, ExportError> {
        match self.argument(place) {
            Argument::Int(value) => Ok(value),
            got => Err(self.unexpected("an integer", place, &got)),
        }
    }

    /// A flag; one that is left out is not set.
    pub(super) fn flag(&self, place: usize) -> bool {
        self.argument(place) == Argument::Bool(true)
    }

    /// A word.
    pub(super) fn word(&self, place: usize) -> Option<String> {
        match self.argument(place) {
            Argument::Text(word) => Some(word),
            _ => None,
        }
    }

    /// Integers of a list.
    pub(super) fn ints(&self, place: usize) -> Result<Vec<i64>, ExportError> {
        let got = self.argument(place);
        let int = |item: &Argument| match item {
            Argument::Int(value) => Some(*value),
            _ => None,
        };
        let ints = match &got {
            Argument::List(items) => items.iter().map(int).collect(),
            _ => None,
        };
        ints.ok_or_else(|| self.unexpected("integers", place, &got))
    }

    /// Sizes and dtype of the first result.
    pub(super) fn result(&self) -> Result<(Kind, Vec<i64>), ExportError> {
        let first = self.operation.results.first();
        let tensor = first.and_then(|result| result.tensor.clone());
        tensor.ok_or_else(|| self.refused("expected a tensor as its result"))
    }

    /// Adds a node with one result; the name of that.
    pub(super) fn node(
        &mut self,
        operator: &str,
        inputs: &[&str],
        attributes: Vec<(&str, Attribute)>,
    ) -> String {
        self.converter.node(operator, inputs, attributes)
    }

    /// What a node gives is the first result.
    pub(super) fn gives_node(
        &mut self,
        operator: &str,
        inputs: &[&str],
        attributes: Vec<(&str, Attribute)>,
    ) -> Result<(), ExportError> {
        let name = self.node(operator, inputs, attributes);
        self.gives(name)
    }

    /// The value of this name is the first result.
    pub(super) fn gives(&mut self, name: String) -> Result<(), ExportError> {
        let (kind, sizes) = self.result()?;
        let operand = Operand { name, kind, sizes };
        let number = self.operation.results[0].number;
        self.converter.values.insert(number, operand);
        Ok(())
    }

    /// The result is the list of a tensor's parts along a dimension.
    pub(super) fn gives_parts(&mut self, of: Operand, dim: i64) {
        let number = self.operation.results[0].number;
        self.converter.lists.insert(number, (of, dim));
    }

    /// The results are the parts of the list that is the first argument.
    pub(super) fn unpacks(&mut self) -> Result<(), ExportError> {
        let list = match self.argument(0) {
            Argument::Value(number) => self.converter.lists.get(&number).cloned(),
            _ => None,
        };
        let (whole, dim) =
            list.ok_or_else(|| self.refused("of a list that is not one of parts"))?;
        let part = |result: &TracedValue| Some((result.number, result.tensor.clone()?));
        let parts: Option<Vec<_>> = self.operation.results.iter().map(part).collect();
        let parts = parts.ok_or_else(|| self.refused("parts that are no tensors"))?;
        let along = parts.iter().map(|(_, (_, sizes))| sizes[dim as usize]);
        let split = self.converter.ints(&along.collect::<Vec<i64>>());
        let (inputs, attributes) = ([&*whole.name, &split], vec![("axis", dim.into())]);
        let names = self
            .converter
            .node_of("Split", &inputs, parts.len(), attributes);
        for (name, (number, (kind, sizes))) in names.into_iter().zip(parts) {
            let operand = Operand { name, kind, sizes };
            self.converter.values.insert(number, operand);
        }
        Ok(())
    }
}
