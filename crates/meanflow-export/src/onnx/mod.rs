//! The sampler of a model as an ONNX graph.
//!
//! Networks are written once, over dual numbers on libtorch ([`meanflow_torch::networks`]). A graph is recorded while the sampler runs
//! on a few rows ([`meanflow_torch::sampler::trace`]), and each operation of libtorch becomes the ONNX nodes that do the same
//! (`convert`). The rows are recorded twice, in two numbers: what differs between the records is the batch, and becomes free.
//!
//! Inputs are `noise` `[batch, …]` in f32 and, of a model with classes, `labels` `[batch]` in int64, whose last number means "no
//! class". The output is `sample` `[batch, …]` in the space of the model: pictures from −1 to 1. Of a model of latents a VAE's decoder can be
//! part of the graph, and the output is its pictures. The weights are initialisers under their own
//! names. The version of the operator set is [`OPSET`], which most programs that read ONNX have.

mod batch;
mod convert;
mod graph;
mod operations;
mod protobuf;
mod write;

pub use graph::{Attribute, Graph, Initializer, Node, OPSET, Port};
pub use write::{LARGEST, write, write_with};

use meanflow_torch::sampler::{self, Decoder, Traced};
use meanflow_torch::{MODEL_KEY, Model};

use crate::ExportError;
use convert::{Call, Converter};

/// The graph that makes samples of noise in so many evaluations of the network, or with a decoder the pictures of samples of latents.
///
/// # Errors
/// If there are no steps, the network has an operation that has no node here, or the decoder is one of other latents.
pub fn sampler(
    model: &Model,
    steps: usize,
    decoder: Option<Decoder<'_>>,
) -> Result<Graph, ExportError> {
    if steps == 0 {
        return Err(ExportError::Graph(
            "steps: expected at least 1, got 0".to_owned(),
        ));
    }
    let grid = sampler::uniform_grid(steps);
    let record = |rows| sampler::trace(model, rows, &grid, decoder);
    let mut graph = of_traces([record(2)?, record(3)?], "sample")?;
    let described = model.described(Default::default());
    let config = described.into_iter().filter(|(key, _)| key == MODEL_KEY);
    graph.metadata = config.collect();
    graph.metadata.push(("steps".to_owned(), steps.to_string()));
    Ok(graph)
}

/// The graph of a piece of work that was recorded with two and with three rows; its output is called `output`.
fn of_traces([two, three]: [Traced; 2], output: &str) -> Result<Graph, ExportError> {
    let freed = batch::freed(&two.trace, &three.trace)?;
    let mut converter = Converter::new(&two)?;
    for operation in &freed {
        operations::convert(&mut Call {
            converter: &mut converter,
            operation,
        })?;
    }
    converter.finish(&two, output)
}
