//! What samples took.

use std::path::Path;

use serde_json::json;

use crate::output::{is_json, is_standard_output, note, say};

/// Evaluations and time of a set of samples.
pub(crate) struct Effort {
    samples: usize,
    least: usize,
    most: usize,
    mean: f64,
    seconds: f64,
}

impl Effort {
    /// From the evaluations of every sample.
    pub(crate) fn new(nfe: &[usize], seconds: f64) -> Self {
        Self {
            samples: nfe.len(),
            least: nfe.iter().copied().min().unwrap_or_default(),
            most: nfe.iter().copied().max().unwrap_or_default(),
            mean: nfe.iter().sum::<usize>() as f64 / nfe.len() as f64,
            seconds,
        }
    }

    /// Says what was written, samples of this shape, and what it took.
    pub(crate) fn report(&self, out: &Path, shape: &[usize]) {
        let Self {
            samples,
            least,
            most,
            mean,
            seconds,
        } = self;
        if is_json() {
            let report = json!({
                "out": out, "samples": samples, "shape": shape, "seconds": seconds,
                "nfe": { "least": least, "mean": mean, "most": most },
            });
            say(format_args!("{report:#}"));
            return;
        }
        let each = match (least, most) {
            (1, 1) => "1 evaluation each".to_owned(),
            (least, most) if least == most => format!("{most} evaluations each"),
            _ => format!("{least} to {most} evaluations, {mean:.1} on average"),
        };
        let text = format!(
            "{}: {samples} samples, {each}, {seconds:.2} s",
            out.display()
        );
        match is_standard_output(out) {
            true => note(text),
            false => say(text),
        }
    }
}
