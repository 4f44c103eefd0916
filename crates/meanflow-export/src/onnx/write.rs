//! A graph as a file.

use std::io::Write;
use std::path::{Path, PathBuf};

use meanflow_files::{Durability, replace};
use meanflow_torch::{Device, Kind, Tensor};

use super::graph::{Attribute, Graph, Initializer, Node, OPSET, Port, data_type};
use super::protobuf::Message;
use crate::ExportError;

/// The largest file that holds its weights itself: readers refuse messages of 2 GiB. Weights beyond it go into a file beside.
pub const LARGEST: u64 = (1 << 31) - (1 << 24);

/// The version of the file format that goes with [`OPSET`].
const IR_VERSION: i64 = 8;

/// Writes a graph into the file `path`, whole or not at all. Weights that are too large for it ([`LARGEST`]) go into
/// `NAME.onnx.data` beside it, which belongs to it from then on. Gives the files written.
///
/// # Errors
/// If a file cannot be written; the file `path` is then as it was.
pub fn write(path: &Path, graph: &Graph) -> Result<Vec<PathBuf>, ExportError> {
    write_with(path, graph, LARGEST)
}

/// As [`write`], with another limit.
///
/// # Errors
/// As [`write`].
pub fn write_with(path: &Path, graph: &Graph, largest: u64) -> Result<Vec<PathBuf>, ExportError> {
    let io = ExportError::io("write", path);
    let weights: u64 = graph
        .initializers
        .iter()
        .map(|one| bytes_of(&one.tensor))
        .sum();
    if weights <= largest {
        replace(path, Durability::Synced, io, |file| {
            let io = ExportError::io("write", path);
            model(graph, Place::Inside, file).map_err(io)
        })?;
        return Ok(vec![path.to_owned()]);
    }
    let data = beside(path)?;
    let name = data
        .file_name()
        .map(|name| name.to_string_lossy().into_owned());
    let failed = ExportError::io("write", &data);
    replace(&data, Durability::Synced, &failed, |file| {
        let mut tensors = graph.initializers.iter();
        let written = tensors.try_for_each(|one| file.write_all(&data_of(&one.tensor)));
        written.map_err(&failed)
    })?;
    replace(path, Durability::Synced, io, |file| {
        let io = ExportError::io("write", path);
        model(graph, Place::Beside(&name.unwrap_or_default()), file).map_err(io)
    })?;
    Ok(vec![path.to_owned(), data])
}

/// The name of the file with the weights.
fn beside(path: &Path) -> Result<PathBuf, ExportError> {
    let name = path.file_name().and_then(|name| name.to_str());
    let name = name.ok_or_else(|| ExportError::File {
        path: path.to_owned(),
        problem: "expected a file name that is a text, since the file has to name the one with its weights".to_owned(),
    })?;
    Ok(path.with_file_name(format!("{name}.data")))
}

/// Where the numbers of the initialisers are.
#[derive(Clone, Copy)]
enum Place<'a> {
    Inside,
    /// In a file of this name, one after the other.
    Beside(&'a str),
}

/// Writes the message of a model. The lengths of messages stand before them, so all are known before a weight is copied.
fn model(graph: &Graph, place: Place, file: &mut impl Write) -> std::io::Result<()> {
    let mut offset = 0;
    let heads: Vec<(Message, u64)> = graph
        .initializers
        .iter()
        .map(|one| initializer(one, place, &mut offset))
        .collect();
    let weights: u64 = heads
        .iter()
        .map(|(head, inside)| head.0.len() as u64 + inside)
        .sum();
    let rest = body(graph);
    let mut start = head(graph);
    start.announced(7, (weights + rest.0.len() as u64) as usize);
    file.write_all(&start.0)?;
    file.write_all(&rest.0)?;
    for ((head, inside), one) in heads.iter().zip(&graph.initializers) {
        file.write_all(&head.0)?;
        if *inside > 0 {
            file.write_all(&data_of(&one.tensor))?;
        }
    }
    Ok(())
}

/// The fields of a model without its graph.
fn head(graph: &Graph) -> Message {
    let entry = |(key, value): &(String, String)| Message::new().text(1, key).text(2, value);
    Message::new()
        .int(1, IR_VERSION)
        .text(2, "meanflow")
        .text(3, env!("CARGO_PKG_VERSION"))
        .message(8, Message::new().text(1, "").int(2, OPSET))
        .each(&graph.metadata, |all, pair| all.message(14, entry(pair)))
}

/// The fields of a graph without its initialisers.
fn body(graph: &Graph) -> Message {
    Message::new()
        .each(&graph.nodes, |all, one| all.message(1, node(one)))
        .text(2, "sampler")
        .each(&graph.inputs, |all, input| all.message(11, port(input)))
        .each(&graph.outputs, |all, output| all.message(12, port(output)))
}

fn node(node: &Node) -> Message {
    Message::new()
        .each(&node.inputs, |all, name| all.text(1, name))
        .each(&node.outputs, |all, name| all.text(2, name))
        .text(3, &node.name)
        .text(4, &node.operator)
        .each(&node.attributes, |all, pair| {
            all.message(5, attribute(pair))
        })
}

fn attribute((name, value): &(String, Attribute)) -> Message {
    let named = Message::new().text(1, name);
    match value {
        Attribute::Float(value) => named.float(2, *value).int(20, 1),
        Attribute::Int(value) => named.int(3, *value).int(20, 2),
        Attribute::Text(value) => named.text(4, value).int(20, 3),
        Attribute::Ints(values) => named
            .each(values, |all, value| all.int(8, *value))
            .int(20, 7),
    }
}

fn port(port: &Port) -> Message {
    let size = |size: &Option<i64>| match size {
        Some(size) => Message::new().int(1, *size),
        None => Message::new().text(2, "batch"),
    };
    let shape = Message::new().each(&port.shape, |all, one| all.message(1, size(one)));
    let tensor = Message::new()
        .int(1, number_of(port.kind))
        .message(2, shape);
    Message::new()
        .text(1, &port.name)
        .message(2, Message::new().message(1, tensor))
}

/// The field of an initialiser up to its numbers, and how many bytes of them follow.
fn initializer(one: &Initializer, place: Place, offset: &mut u64) -> (Message, u64) {
    let bytes = bytes_of(&one.tensor);
    let mut tensor = Message::new()
        .each(one.tensor.size(), Message::dimension)
        .int(2, number_of(one.tensor.kind()))
        .text(8, &one.name);
    let inside = match place {
        Place::Inside => {
            tensor.announced(9, bytes as usize);
            bytes
        }
        Place::Beside(name) => {
            let entry = |key: &str, value: &str| Message::new().text(1, key).text(2, value);
            tensor = tensor
                .message(13, entry("location", name))
                .message(13, entry("offset", &offset.to_string()))
                .message(13, entry("length", &bytes.to_string()))
                .int(14, 1);
            *offset += bytes;
            0
        }
    };
    let mut field = Message::new();
    field.announced(5, tensor.0.len() + inside as usize);
    field.0.extend(tensor.0);
    (field, inside)
}

impl Message {
    fn dimension(self, size: i64) -> Self {
        self.int(1, size)
    }
}

/// Of a dtype that a graph has: others are refused when it is made.
fn number_of(kind: Kind) -> i64 {
    data_type(kind).unwrap_or(0)
}

fn bytes_of(tensor: &Tensor) -> u64 {
    (tensor.numel() * tensor.kind().elt_size_in_bytes()) as u64
}

/// The numbers of a tensor as they lie in memory, least byte first.
fn data_of(tensor: &Tensor) -> Vec<u8> {
    let tensor = tensor.detach().to_device(Device::Cpu).contiguous();
    let mut data = vec![0; bytes_of(&tensor) as usize];
    tensor.copy_data_u8(&mut data, tensor.numel());
    data
}
