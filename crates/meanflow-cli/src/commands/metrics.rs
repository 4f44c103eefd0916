//! `meanflow metrics`: the numbers of a run as a table.

use std::path::PathBuf;

use meanflow_data::write_bytes;
use meanflow_train::metrics::{self, History};
use serde_json::json;

use crate::output::{is_json, is_standard_output, note, say};

/// Print the metrics of a run as a table with commas (CSV), one line a logged step.
///
/// The columns are those of metrics.jsonl; v_loss_t2_r0 is the v_loss of rows with t in the third quarter and r in the first.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  meanflow metrics runs/digits > metrics.csv\n  \
meanflow metrics runs/digits --json | jq '.records[-1].v_loss'"
)]
pub(crate) struct Metrics {
    /// A run directory, or its metrics.jsonl
    #[arg(value_name = "RUN")]
    run: PathBuf,
    /// The file to write
    #[arg(long, value_name = "FILE", default_value = "-")]
    out: PathBuf,
}

pub(crate) fn run(args: &Metrics) -> anyhow::Result<u8> {
    let path = if args.run.is_dir() {
        args.run.join("metrics.jsonl")
    } else {
        args.run.clone()
    };
    let History {
        records,
        damaged_lines,
    } = metrics::read(&path)?;
    if !damaged_lines.is_empty() {
        let lines: Vec<String> = damaged_lines.iter().map(usize::to_string).collect();
        note(format_args!(
            "warning: {}: lines that cannot be read: {}",
            path.display(),
            lines.join(", ")
        ));
    }
    if is_json() {
        say(format_args!(
            "{:#}",
            json!({ "records": records, "damaged_lines": damaged_lines })
        ));
        return Ok(0);
    }
    let text = metrics::to_csv(&records);
    if is_standard_output(&args.out) {
        say(text.trim_end());
    } else {
        write_bytes(&args.out, text.as_bytes())?;
    }
    Ok(0)
}
