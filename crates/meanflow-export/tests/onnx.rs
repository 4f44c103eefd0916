//! Graphs of ONNX: what they compute for batches of other sizes, what stands in their files, what is refused.

use std::collections::BTreeSet;
use std::fs;

use meanflow_core::Schedule;
use meanflow_export::ExportError;
use meanflow_export::onnx::{self, Graph};
use meanflow_torch::layers::Linear;
use meanflow_torch::networks::{CustomNetwork, Network, NetworkBuilder, register};
use meanflow_torch::{Conditioning, Dual, Flops, Kind, Model, Tensor, TorchError, VarBuilder};
use serde::{Deserialize, Serialize};

mod common;
#[path = "common/file.rs"]
mod file;
#[path = "common/run.rs"]
mod run;

/// A few dozen roundings of f32 in another order, of states of order one.
const ROUNDING: f64 = 1e-5;

/// The inputs of these rows.
fn inputs(model: &Model, rows: &[i64]) -> Vec<(&'static str, Tensor)> {
    let rows = Tensor::from_slice(rows);
    let of_rows = |all: Tensor| all.index_select(0, &rows);
    let labels = common::labels(model).map(|labels| Tensor::from_slice(&labels));
    let labels = labels.map(|labels| ("labels", of_rows(labels)));
    let noise = ("noise", of_rows(common::noises(model)));
    std::iter::once(noise).chain(labels).collect()
}

#[test]
fn a_graph_draws_what_the_sampler_draws_whatever_the_batch() {
    for (name, model) in common::models() {
        for steps in [1, 3] {
            let graph = onnx::sampler(&model, steps, None).unwrap();
            let expected = common::drawn(&model, steps);
            // One row, some in another order, all, and more than the graph was recorded with.
            for rows in [&[4][..], &[3, 1], &[0, 1, 2, 3, 4], &[2; 11]] {
                let case = format!("{name}, {steps} steps");
                assert_gives(&graph, &model, rows, &expected, &case);
            }
        }
    }
}

/// For these rows the graph gives those of what is expected for all.
fn assert_gives(graph: &Graph, model: &Model, rows: &[i64], expected: &Tensor, case: &str) {
    let got = run::run(graph, &inputs(model, rows));
    let expected = expected.index_select(0, &Tensor::from_slice(rows));
    let distance = common::distance(&got, &expected);
    assert!(distance < ROUNDING, "{case}, rows {rows:?}: {distance}");
}

#[test]
fn a_graph_with_a_decoder_draws_the_pictures_of_the_latents() {
    let (model, vae) = (common::latents(), common::vae());
    let graph = onnx::sampler(&model, 2, Some(common::decoder(&vae))).unwrap();
    refers_to_nothing_unknown(&graph, "latents");
    // Latents of 4×6 are pictures of 8×12.
    let free = [None, Some(3), Some(8), Some(12)];
    assert_eq!(graph.outputs[0].shape, free);
    let expected = common::decoded(&vae, &common::drawn(&model, 2));
    for rows in [&[4][..], &[3, 1], &[2; 11]] {
        assert_gives(&graph, &model, rows, &expected, "latents");
    }
    let is_of = |part: &str| {
        let names = graph.initializers.iter().map(|one| one.name.as_str());
        names.filter(|name| name.starts_with(part)).count()
    };
    assert!(
        is_of("vae.decoder.") > 20,
        "the decoder's weights are there"
    );
    assert_eq!(is_of("vae.encoder."), 0, "the encoder's are not");
}

#[test]
fn a_decoder_of_other_latents_is_refused() {
    let (_, model) = common::models().pop().unwrap();
    let vae = common::vae();
    let error = onnx::sampler(&model, 1, Some(common::decoder(&vae))).unwrap_err();
    assert!(error.to_string().contains("[2, height, width]"), "{error}");
}

#[test]
fn inputs_outputs_and_weights_have_their_names_and_shapes() {
    for (name, model) in common::models() {
        let graph = onnx::sampler(&model, 1, None).unwrap();
        let config = model.config();
        let free: Vec<Option<i64>> = std::iter::once(None)
            .chain(config.shape.iter().copied().map(Some))
            .collect();
        let names: Vec<&str> = graph.inputs.iter().map(|port| &*port.name).collect();
        assert_eq!(
            names,
            ["noise", "labels"][..1 + usize::from(config.classes > 0)]
        );
        assert_eq!(
            (&graph.inputs[0].shape, graph.inputs[0].kind),
            (&free, Kind::Float)
        );
        if let Some(labels) = graph.inputs.get(1) {
            assert_eq!((&labels.shape[..], labels.kind), (&[None][..], Kind::Int64));
        }
        assert_eq!(
            (&*graph.outputs[0].name, &graph.outputs[0].shape),
            ("sample", &free)
        );
        // Every parameter that takes part in a sample is there under its own name, with its own bits.
        let unused = ["map_augment.weight"];
        for (name, tensor) in model
            .parameters()
            .iter()
            .filter(|(name, _)| !unused.contains(name))
        {
            let one = graph.initializers.iter().find(|one| one.name == name);
            let one = one.unwrap_or_else(|| panic!("{name} is missing"));
            assert_eq!(one.tensor, tensor.detach(), "{name}");
        }
        refers_to_nothing_unknown(&graph, name);
    }
}

/// Names are given once, before they are used.
fn refers_to_nothing_unknown(graph: &Graph, name: &str) {
    let mut known = BTreeSet::from([""]);
    let given = graph.inputs.iter().map(|port| &*port.name);
    for given in given.chain(graph.initializers.iter().map(|one| &*one.name)) {
        assert!(known.insert(given), "{name}: {given} is given twice");
    }
    for node in &graph.nodes {
        assert!(
            node.inputs.iter().all(|input| known.contains(&**input)),
            "{name}: {node:?}"
        );
        assert!(
            node.outputs.iter().all(|output| known.insert(output)),
            "{name}: {node:?}"
        );
    }
    assert!(known.contains(&*graph.outputs[0].name));
}

#[test]
fn a_file_is_read_back_as_it_was_with_its_weights_inside_or_beside() {
    let folder = tempfile::tempdir().unwrap();
    for (name, model) in common::models() {
        let graph = onnx::sampler(&model, 1, None).unwrap();
        let inside = folder.path().join(format!("{name}.onnx"));
        let beside = folder.path().join(format!("{name}-beside.onnx"));
        let files = onnx::write(&inside, &graph).unwrap();
        assert_eq!(files, std::slice::from_ref(&inside));
        let files = onnx::write_with(&beside, &graph, 100).unwrap();
        let data = folder.path().join(format!("{name}-beside.onnx.data"));
        assert_eq!(files, [beside.clone(), data]);
        for path in [&inside, &beside] {
            let read = file::read(path);
            assert_eq!(
                (&read.inputs, &read.outputs, &read.nodes),
                (&graph.inputs, &graph.outputs, &graph.nodes)
            );
            assert_eq!(read.metadata, graph.metadata);
            assert_eq!(read.initializers.len(), graph.initializers.len());
            for (one, other) in read.initializers.iter().zip(&graph.initializers) {
                assert_eq!((&one.name, &one.tensor), (&other.name, &other.tensor));
            }
        }
        // The same model is the same bytes.
        let again = folder.path().join("again.onnx");
        onnx::write(&again, &onnx::sampler(&model, 1, None).unwrap()).unwrap();
        assert_eq!(
            fs::read(&again).unwrap(),
            fs::read(&inside).unwrap(),
            "{name}"
        );
    }
}

#[test]
fn no_steps_are_refused() {
    let (_, model) = common::models().swap_remove(0);
    let error = onnx::sampler(&model, 0, None).unwrap_err().to_string();
    assert!(error.contains("at least 1"), "{error}");
}

/// A network of a program's own: what it does with its layers is all that is known of it.
#[derive(Debug, Deserialize, Serialize)]
struct Mine {
    way: String,
}

#[derive(Debug)]
struct MyNetwork {
    map: Linear,
    way: String,
}

impl NetworkBuilder for Mine {
    fn validate(&self, _shape: &[i64], _classes: i64) -> Result<(), TorchError> {
        Ok(())
    }

    fn build(&self, vars: &mut VarBuilder, shape: &[i64], _classes: i64) -> Box<dyn Network> {
        let map = Linear::xavier(&mut vars.sub("map"), shape[0], shape[0]);
        let way = self.way.clone();
        Box::new(MyNetwork { map, way })
    }
}

impl Network for MyNetwork {
    fn forward(&self, z: &Dual, _r: &Dual, _t: &Dual, _condition: &Conditioning) -> Dual {
        let rows = z.primal().size()[0];
        let y = self.map.forward(z);
        match self.way.as_str() {
            "plain" => y
                .gelu()
                .map_linear(|x| x.reshape([rows, 1, -1]).squeeze_dim(1)),
            "by the rows" => y.scale(rows as f64),
            "another operation" => y.map_linear(|x| x.cumsum(1, None::<Kind>)),
            other => unreachable!("{other}"),
        }
    }

    fn flops(&self) -> Flops {
        self.map.flops(1)
    }
}

fn mine(way: &str) -> Result<Graph, ExportError> {
    let config = serde_json::json!({ "way": way });
    let config = config.as_object().unwrap().clone();
    let network = CustomNetwork::new("export-test", config).unwrap().into();
    let model = common::model(network, &[4], 0, Schedule::Linear);
    let graph = onnx::sampler(&model, 1, None)?;
    assert_gives(&graph, &model, &[1, 3], &common::drawn(&model, 1), way);
    Ok(graph)
}

#[test]
fn networks_of_ones_own_are_exported_or_refused_by_the_operation() {
    register::<Mine>("export-test").unwrap();
    // Sizes that hold the rows where another one is free already cannot be told apart from a network that needs two of them.
    for (way, operation, why) in [
        ("plain", "aten::reshape", "batch"),
        ("by the rows", "aten::mul", "batch"),
        ("another operation", "aten::cumsum", "no ONNX node"),
    ] {
        let error = mine(way).unwrap_err().to_string();
        assert!(error.contains(operation) && error.contains(why), "{error}");
    }
}
