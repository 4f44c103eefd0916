//! A graph out of a file, by the documentation of the format and not by the lines that write it.

use std::fs;
use std::path::Path;

use meanflow_export::onnx::{Attribute, Graph, Initializer, Node, Port};
use meanflow_torch::{Kind, Tensor};

/// The graph of a file, with the weights beside it where there are any.
pub(crate) fn read(path: &Path) -> Graph {
    let model = Message::of(&fs::read(path).unwrap());
    let graph = model.message(7);
    let initializers = graph.messages(5);
    Graph {
        inputs: graph.messages(11).map(|one| port(&one)).collect(),
        outputs: graph.messages(12).map(|one| port(&one)).collect(),
        initializers: initializers.map(|one| initializer(&one, path)).collect(),
        nodes: graph.messages(1).map(|one| node(&one)).collect(),
        metadata: model.messages(14).map(|one| entry(&one)).collect(),
    }
}

fn node(message: &Message) -> Node {
    let attributes = message.messages(5).map(|one| attribute(&one));
    Node {
        name: message.text(3),
        operator: message.text(4),
        inputs: message.texts(1).collect(),
        outputs: message.texts(2).collect(),
        attributes: attributes.collect(),
    }
}

fn attribute(message: &Message) -> (String, Attribute) {
    let value = match message.ints(20)[0] {
        1 => Attribute::Float(message.float(2)),
        2 => Attribute::Int(message.ints(3)[0]),
        3 => Attribute::Text(message.text(4)),
        7 => Attribute::Ints(message.ints(8)),
        other => panic!("an attribute of type {other}"),
    };
    (message.text(1), value)
}

fn port(message: &Message) -> Port {
    let tensor = message.message(2).message(1);
    let sizes = tensor.message(2);
    Port {
        name: message.text(1),
        kind: kind(&tensor.ints(1)),
        shape: sizes.messages(1).map(|size| size.ints(1).pop()).collect(),
    }
}

fn initializer(message: &Message, path: &Path) -> Initializer {
    let beside: Vec<_> = message.messages(13).map(|one| entry(&one)).collect();
    let data = match &beside[..] {
        [] => message.bytes(9).next().unwrap().to_vec(),
        [(_, location), (_, offset), (_, length)] => {
            let all = fs::read(path.with_file_name(location)).unwrap();
            let [offset, length] = [offset, length].map(|text| text.parse::<usize>().unwrap());
            all[offset..offset + length].to_vec()
        }
        other => panic!("weights in {other:?}"),
    };
    Initializer {
        name: message.text(8),
        tensor: Tensor::from_data_size(&data, &message.ints(1), kind(&message.ints(2))),
    }
}

fn entry(message: &Message) -> (String, String) {
    (message.text(1), message.text(2))
}

fn kind(number: &[i64]) -> Kind {
    match number {
        [1] => Kind::Float,
        [7] => Kind::Int64,
        [9] => Kind::Bool,
        [11] => Kind::Double,
        other => panic!("a tensor of type {other:?}"),
    }
}

/// The fields of a message with their numbers.
struct Message(Vec<(u64, Value)>);

enum Value {
    Int(i64),
    Float(f32),
    Bytes(Vec<u8>),
}

impl Message {
    fn of(mut bytes: &[u8]) -> Self {
        let mut fields = Vec::new();
        while !bytes.is_empty() {
            let tag = varint(&mut bytes);
            let value = match tag & 7 {
                0 => Value::Int(varint(&mut bytes) as i64),
                2 => {
                    let length = varint(&mut bytes) as usize;
                    Value::Bytes(bytes.split_off(..length).unwrap().to_vec())
                }
                5 => {
                    let number = bytes.split_off(..4).unwrap().try_into();
                    Value::Float(f32::from_le_bytes(number.unwrap()))
                }
                other => panic!("a field of wire type {other}"),
            };
            fields.push((tag >> 3, value));
        }
        Self(fields)
    }

    fn all(&self, field: u64) -> impl Iterator<Item = &Value> {
        let fields = self.0.iter();
        fields.filter_map(move |(number, value)| (*number == field).then_some(value))
    }

    fn bytes(&self, field: u64) -> impl Iterator<Item = &[u8]> {
        self.all(field).map(move |value| match value {
            Value::Bytes(bytes) => &bytes[..],
            _ => panic!("field {field} is a number"),
        })
    }

    fn messages(&self, field: u64) -> impl Iterator<Item = Self> {
        self.bytes(field).map(Self::of)
    }

    fn message(&self, field: u64) -> Self {
        self.messages(field).next().unwrap()
    }

    fn texts(&self, field: u64) -> impl Iterator<Item = String> {
        let texts = self.bytes(field);
        texts.map(|bytes| String::from_utf8(bytes.to_vec()).unwrap())
    }

    fn text(&self, field: u64) -> String {
        self.texts(field).next().unwrap()
    }

    fn ints(&self, field: u64) -> Vec<i64> {
        let ints = self.all(field).map(|value| match value {
            Value::Int(int) => *int,
            _ => panic!("field {field} is no integer"),
        });
        ints.collect()
    }

    fn float(&self, field: u64) -> f32 {
        match self.all(field).next() {
            Some(Value::Float(float)) => *float,
            _ => panic!("field {field} is no number of 32 bits"),
        }
    }
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    for place in 0.. {
        let byte = *bytes.split_off_first().unwrap();
        value |= u64::from(byte & 0x7f) << (7 * place);
        if byte < 0x80 {
            break;
        }
    }
    value
}
