//! `meanflow export onnx`: the sampler as an ONNX graph.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use anyhow::Context;
use meanflow_export::onnx::{self, Port};
use serde_json::json;

use super::source::ExportedWeights;
use crate::commands::decode::Decoding;
use crate::output::{is_json, say};
use crate::usage::Usage;

/// The sampler as an ONNX graph: noise, and of a model with classes labels, to samples.
///
/// Of a model of latents the graph goes on to pictures where --vae names their VAE. The batch is free. The graph holds the weights; beyond 2 GiB they go into NAME.onnx.data beside it.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  meanflow export onnx runs/digits --steps 2 --out digits.onnx")]
pub(super) struct Onnx {
    #[command(flatten)]
    source: ExportedWeights,
    /// Evaluations of the network a sample
    #[arg(long, value_name = "N", default_value = "1")]
    steps: NonZeroUsize,
    /// The VAE whose decoder makes pictures of the latents, as part of the graph: a folder as diffusers writes it, or its weights (.safetensors)
    #[arg(long, value_name = "DIR|FILE")]
    vae: Option<PathBuf>,
    /// The file to write
    #[arg(long, value_name = "FILE.onnx")]
    out: PathBuf,
}

pub(super) fn run(args: &Onnx) -> anyhow::Result<u8> {
    check(&args.out)?;
    let opened = args.source.open()?;
    let decoding = |vae| Decoding::new(vae, &opened.model, &opened.metadata);
    let decoding = args.vae.as_deref().map(decoding).transpose()?;
    let decoder = decoding.as_ref().map(Decoding::for_trace);
    let graph = onnx::sampler(&opened.model, args.steps.get(), decoder)?;
    let files = onnx::write(&args.out, &graph)?;
    let size = |file: &PathBuf| std::fs::metadata(file).map(|metadata| metadata.len());
    let bytes: std::io::Result<Vec<u64>> = files.iter().map(size).collect();
    let bytes = bytes.context("cannot look at what was written")?;
    if is_json() {
        let ports = |ports: &[Port]| {
            ports
                .iter()
                .map(|port| json!({"name": port.name, "dtype": dtype(port), "shape": shape(port)}))
                .collect::<Vec<_>>()
        };
        let files = files
            .iter()
            .zip(&bytes)
            .map(|(file, bytes)| json!({"file": file, "bytes": bytes}));
        let report = json!({
            "files": files.collect::<Vec<_>>(), "opset": onnx::OPSET, "steps": args.steps, "nodes": graph.nodes.len(),
            "inputs": ports(&graph.inputs), "outputs": ports(&graph.outputs),
        });
        say(format_args!("{report:#}"));
        return Ok(0);
    }
    for (what, ports) in [("input", &graph.inputs), ("output", &graph.outputs)] {
        for port in ports {
            say(format_args!(
                "{what:<8} {:<8} {} [{}]",
                port.name,
                dtype(port),
                shape(port).join(", ")
            ));
        }
    }
    say(format_args!(
        "graph    {} nodes, operator set {}",
        graph.nodes.len(),
        onnx::OPSET
    ));
    for (file, bytes) in files.iter().zip(bytes) {
        say(format_args!("wrote    {} ({bytes} bytes)", file.display()));
    }
    Ok(0)
}

/// Refuses a file that cannot be written before anything is computed.
fn check(out: &Path) -> anyhow::Result<()> {
    let shown = out.display();
    if out.extension().is_none_or(|end| end != "onnx") {
        return Err(Usage(format!("--out {shown}: expected NAME.onnx")).into());
    }
    if out.is_dir() {
        return Err(Usage(format!("--out {shown}: expected a file, got a folder")).into());
    }
    let parent = out.parent().filter(|parent| !parent.as_os_str().is_empty());
    match parent.filter(|parent| !parent.is_dir()) {
        Some(parent) => Err(Usage(format!(
            "--out {shown}: there is no folder {}",
            parent.display()
        ))
        .into()),
        None => Ok(()),
    }
}

fn dtype(port: &Port) -> &'static str {
    match port.kind {
        meanflow_torch::Kind::Int64 => "i64",
        _ => "f32",
    }
}

fn shape(port: &Port) -> Vec<String> {
    let size =
        |size: &Option<i64>| size.map_or_else(|| "batch".to_owned(), |size| size.to_string());
    port.shape.iter().map(size).collect()
}
