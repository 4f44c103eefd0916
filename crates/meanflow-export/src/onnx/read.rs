//! A graph out of a file.

use std::path::Path;

use meanflow_torch::{Kind, Tensor};

use super::graph::{Attribute, Graph, Initializer, Node, Port, kind_of};
use super::protobuf::{Field, Fields};
use crate::ExportError;

/// Reads a graph that [`write`](super::write) has written, with the weights beside it where there are any.
///
/// # Errors
/// If the file cannot be read, or is not one that is written here: of ONNX files in general only a part is understood.
pub fn read(path: &Path) -> Result<Graph, ExportError> {
    let io = ExportError::io("read", path);
    let bytes = std::fs::read(path).map_err(&io)?;
    graph_of(&bytes, path).ok_or_else(|| ExportError::File {
        path: path.to_owned(),
        problem: "not an ONNX file as meanflow writes it".to_owned(),
    })
}

fn graph_of(bytes: &[u8], path: &Path) -> Option<Graph> {
    let (mut graph, mut metadata) = (None, Vec::new());
    for field in Fields(bytes) {
        match field? {
            (7, Field::Bytes(bytes)) => graph = Some(self::graph(bytes, path)?),
            (14, Field::Bytes(bytes)) => metadata.push(entry(bytes)?),
            _ => {}
        }
    }
    Some(Graph { metadata, ..graph? })
}

fn graph(bytes: &[u8], path: &Path) -> Option<Graph> {
    let mut graph = Graph {
        inputs: Vec::new(),
        outputs: Vec::new(),
        initializers: Vec::new(),
        nodes: Vec::new(),
        metadata: Vec::new(),
    };
    for field in Fields(bytes) {
        match field? {
            (1, Field::Bytes(bytes)) => graph.nodes.push(node(bytes)?),
            (5, Field::Bytes(bytes)) => graph.initializers.push(initializer(bytes, path)?),
            (11, Field::Bytes(bytes)) => graph.inputs.push(port(bytes)?),
            (12, Field::Bytes(bytes)) => graph.outputs.push(port(bytes)?),
            _ => {}
        }
    }
    Some(graph)
}

fn node(bytes: &[u8]) -> Option<Node> {
    let mut node = Node {
        name: String::new(),
        operator: String::new(),
        inputs: Vec::new(),
        outputs: Vec::new(),
        attributes: Vec::new(),
    };
    for field in Fields(bytes) {
        match field? {
            (1, Field::Bytes(bytes)) => node.inputs.push(text(bytes)?),
            (2, Field::Bytes(bytes)) => node.outputs.push(text(bytes)?),
            (3, Field::Bytes(bytes)) => node.name = text(bytes)?,
            (4, Field::Bytes(bytes)) => node.operator = text(bytes)?,
            (5, Field::Bytes(bytes)) => node.attributes.push(attribute(bytes)?),
            _ => {}
        }
    }
    Some(node)
}

fn attribute(bytes: &[u8]) -> Option<(String, Attribute)> {
    let (mut name, mut value, mut ints) = (String::new(), None, Vec::new());
    for field in Fields(bytes) {
        match field? {
            (1, Field::Bytes(bytes)) => name = text(bytes)?,
            (2, Field::Float(number)) => value = Some(Attribute::Float(number)),
            (3, Field::Int(number)) => value = Some(Attribute::Int(number)),
            (4, Field::Bytes(bytes)) => value = Some(Attribute::Text(text(bytes)?)),
            (8, Field::Int(number)) => ints.push(number),
            _ => {}
        }
    }
    Some((name, value.unwrap_or(Attribute::Ints(ints))))
}

fn port(bytes: &[u8]) -> Option<Port> {
    let (name, kind) = (text(inner(bytes, 1)?)?, inner(inner(bytes, 2)?, 1)?);
    let (mut number, mut shape) = (0, Vec::new());
    for field in Fields(kind) {
        match field? {
            (1, Field::Int(kind)) => number = kind,
            (2, Field::Bytes(sizes)) => {
                for size in Fields(sizes) {
                    let (_, Field::Bytes(size)) = size? else {
                        return None;
                    };
                    shape.push(match Fields(size).next()?? {
                        (1, Field::Int(size)) => Some(size),
                        _ => None,
                    });
                }
            }
            _ => {}
        }
    }
    let kind = kind_of(number)?;
    Some(Port { name, kind, shape })
}

/// The first message or text of a field.
fn inner(bytes: &[u8], field: u64) -> Option<&[u8]> {
    Fields(bytes).flatten().find_map(|found| match found {
        (number, Field::Bytes(bytes)) if number == field => Some(bytes),
        _ => None,
    })
}

fn initializer(bytes: &[u8], path: &Path) -> Option<Initializer> {
    let (mut sizes, mut kind, mut name) = (Vec::new(), None, String::new());
    let (mut data, mut beside) = (None, Vec::new());
    for field in Fields(bytes) {
        match field? {
            (1, Field::Int(size)) => sizes.push(size),
            (2, Field::Int(number)) => kind = kind_of(number),
            (8, Field::Bytes(bytes)) => name = text(bytes)?,
            (9, Field::Bytes(bytes)) => data = Some(bytes.to_owned()),
            (13, Field::Bytes(bytes)) => beside.push(entry(bytes)?),
            _ => {}
        }
    }
    let data = match data {
        Some(data) => data,
        None => external(&beside, path)?,
    };
    let tensor = tensor_of(&data, &sizes, kind?)?;
    Some(Initializer { name, tensor })
}

/// The bytes that the entries of an initialiser name in a file beside.
fn external(entries: &[(String, String)], path: &Path) -> Option<Vec<u8>> {
    let value = |key: &str| {
        entries
            .iter()
            .find(|(known, _)| known == key)
            .map(|(_, value)| value)
    };
    let name = value("location")?;
    // A name that leads elsewhere is none that is written here.
    if name.contains(['/', '\\']) || name == ".." {
        return None;
    }
    let all = std::fs::read(path.with_file_name(name)).ok()?;
    let number = |key| value(key)?.parse::<usize>().ok();
    let (offset, length) = (number("offset")?, number("length")?);
    Some(all.get(offset..offset.checked_add(length)?)?.to_owned())
}

fn tensor_of(data: &[u8], sizes: &[i64], kind: Kind) -> Option<Tensor> {
    let numbers = sizes.iter().try_fold(1_i64, |all, size| {
        all.checked_mul(*size).filter(|_| *size >= 0)
    })?;
    let bytes = usize::try_from(numbers)
        .ok()?
        .checked_mul(kind.elt_size_in_bytes())?;
    (bytes == data.len()).then(|| Tensor::from_data_size(data, sizes, kind))
}

fn entry(bytes: &[u8]) -> Option<(String, String)> {
    Some((
        text(inner(bytes, 1)?)?,
        text(inner(bytes, 2).unwrap_or_default())?,
    ))
}

fn text(bytes: &[u8]) -> Option<String> {
    String::from_utf8(bytes.to_owned()).ok()
}
