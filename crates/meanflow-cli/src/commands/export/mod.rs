//! `meanflow export`: a model for other programs.

mod facts;
mod hf;
mod onnx;
mod source;

/// Write a model for other programs: a folder for model hubs and PyTorch, or an ONNX file.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  meanflow export hf runs/digits --out digits-one-step --license mit\n  \
meanflow export onnx runs/digits --out digits.onnx"
)]
pub(crate) struct Export {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    Hf(hf::Hf),
    Onnx(onnx::Onnx),
}

pub(crate) fn run(args: &Export) -> anyhow::Result<u8> {
    match &args.what {
        What::Hf(args) => hf::run(args),
        What::Onnx(args) => onnx::run(args),
    }
}
