//! `meanflow info`: what the header of a weights file says, and whether its content is as recorded. libtorch computes
//! nothing here.

use std::collections::BTreeMap;
use std::path::PathBuf;

use meanflow_torch::weights::{self, TensorInfo, WeightsHeader};
use meanflow_torch::{MODEL_KEY, ModelConfig};
use meanflow_train::{CLASS_NAMES_KEY, RECIPE_KEY, class_names_of, fingerprint, weights_of};
use serde_json::json;

use crate::commands::located::located;
use crate::options::Reading;
use crate::output::{is_json, say};

/// Show what a weights file holds, and whether it is what it was.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  meanflow info runs/digits/model.safetensors")]
pub(crate) struct Info {
    /// A weights file (.safetensors), a run directory, an exported folder, or hf:OWNER/NAME[@REVISION]
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    reading: Reading,
}

/// Longest value of the metadata that is shown in full.
const LONGEST: usize = 200;

pub(crate) fn run(args: &Info) -> anyhow::Result<u8> {
    let path = weights_of(&located(&args.file, &args.reading)?);
    let header = weights::header(&path)?;
    let content = match args.reading.no_verify {
        true => None,
        false => weights::verify(&path)?,
    };
    let content = state_of(&header, content);
    let (bytes, sha256) = fingerprint(&path)?;
    if is_json() {
        let tensors: Vec<_> = header
            .tensors
            .iter()
            .map(|one| json!({"name": one.name, "dtype": one.dtype, "shape": one.shape}))
            .collect();
        let report = json!({
            "file": path, "bytes": bytes, "sha256": sha256, "parameters": count(&header.tensors),
            "forward_gflop": forward_gflop(&header), "content": content, "class_names": class_names_of(&header.metadata), "metadata": header.metadata,
            "tensors": tensors,
        });
        say(format_args!("{report:#}"));
    } else {
        say(text(&header).trim_end());
        say(format_args!(
            "content     {content}\nfile        {} ({bytes} bytes)\nsha256      {sha256}",
            path.display()
        ));
    }
    Ok(0)
}

/// 10⁹ operations of a forward of one sample, for weights that say what their network is.
fn forward_gflop(header: &WeightsHeader) -> Option<f64> {
    let config: ModelConfig = serde_json::from_str(header.metadata.get(MODEL_KEY)?).ok()?;
    Some(config.flops().ok()?.forward() / 1e9)
}

/// What is known of the content, in words.
fn state_of(header: &WeightsHeader, verified: Option<String>) -> &'static str {
    match (verified, &header.content) {
        (Some(_), _) => "as its recorded hash says",
        (None, Some(_)) => "not compared with its recorded hash",
        (None, None) => "without a recorded hash",
    }
}

fn text(header: &WeightsHeader) -> String {
    let mut text = format!(
        "parameters  {} in {} tensors\n",
        count(&header.tensors),
        header.tensors.len()
    );
    let mut types = BTreeMap::<&str, usize>::new();
    for tensor in &header.tensors {
        *types.entry(&tensor.dtype).or_default() += 1;
    }
    let types: Vec<String> = types
        .iter()
        .map(|(dtype, tensors)| format!("{tensors} × {dtype}"))
        .collect();
    text += &format!("types       {}\n", types.join(", "));
    if let Some(gflop) = forward_gflop(header) {
        text += &format!("forward     {gflop:.4} GFLOP a sample\n");
    }
    if let Some(names) = class_names_of(&header.metadata) {
        text += &format!("classes     {}\n", listed(&names));
    }
    let is_shown = |key: &str| ![RECIPE_KEY, CLASS_NAMES_KEY].contains(&key);
    for (key, value) in header.metadata.iter().filter(|(key, _)| is_shown(key)) {
        let shown: String = value.chars().take(LONGEST).collect();
        let rest = if shown.len() < value.len() { "…" } else { "" };
        text += &format!("{key:<11} {shown}{rest}\n");
    }
    for tensor in &header.tensors {
        text += &format!(
            "  {:<48} {:>4} {:?}\n",
            tensor.name, tensor.dtype, tensor.shape
        );
    }
    text
}

/// The first names with their numbers, and how many there are.
fn listed(names: &[String]) -> String {
    let shown: Vec<String> = (0..names.len().min(20))
        .map(|class| format!("{class} {}", names[class]))
        .collect();
    let more = if shown.len() < names.len() {
        ", …"
    } else {
        ""
    };
    format!("{}: {}{more}", names.len(), shown.join(", "))
}

fn count(tensors: &[TensorInfo]) -> i64 {
    tensors
        .iter()
        .map(|tensor| tensor.shape.iter().product::<i64>())
        .sum()
}
