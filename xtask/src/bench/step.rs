//! `cargo xtask bench step`: a MeanFlow step beside a plain one, here and in PyTorch.

use super::options::{Guidance, Options};
use super::rival::Rival;
use super::{measure, table};
use anyhow::Result;

#[derive(clap::Args)]
pub(crate) struct Step {
    /// Sizes to measure; may be given several times.
    #[arg(long = "size", default_values = ["digits", "s4"])]
    sizes: Vec<String>,
    /// Guidance of the target; dense in PyTorch, only where it is needed here.
    #[arg(long, value_enum, default_value = "none")]
    guidance: Guidance,
    #[command(flatten)]
    options: Options,
}

/// The variants of this project, of which the first is what the others are divided by.
const OURS: [&str; 3] = ["plain", "dual", "forward_ad"];
/// The variants of the PyTorch script.
const PEERS: [&str; 2] = ["pytorch_plain", "pytorch_func_jvp"];

pub(super) fn run(args: &Step) -> Result<()> {
    let options = &args.options;
    let programs = options.programs("step")?;
    let mut rows = Vec::new();
    for size in &args.sizes {
        let ours = options.ours(&programs, size, args.guidance);
        let peer = options.peer(&programs, "step.py", (size, args.guidance), &PEERS)?;
        let mut rivals = [
            (Rival::start("benches/step", ours)?, OURS.to_vec()),
            (peer, PEERS.to_vec()),
        ];
        rows.extend(table::rows(
            size,
            &measure(size, options.rounds, &mut rivals)?,
        ));
    }
    println!("{}", table::text(&rows));
    options.write(&rows)
}
