//! Checks that a device computes what meanflow-torch means: `meanflow check device`, the GPU kit and the CUDA tests run them.
//!
//! Every check compares numbers that the device computed with numbers from another source: golden files of official
//! implementations, the same computation in f64 on the CPU, or the same computation done in another way on the device.

mod arithmetic;
mod goldens;
mod graph;
mod networks;
mod state;
mod subject;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use meanflow_torch::TorchError;
use serde::{Deserialize, Serialize};
use tch::Device;

pub use goldens::Goldens;

use crate::{Comparison, Tolerance};

/// How a check ended.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Every comparison is within its tolerance.
    Passed,
    /// A comparison is beyond its tolerance, or the computation failed.
    Failed,
    /// The check does not apply to this device.
    Skipped,
}

/// One check of a device with its result.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct DeviceCheck {
    /// What was checked.
    pub name: String,
    /// How it ended.
    pub verdict: Verdict,
    /// The error of the comparison that is nearest to its tolerance, or furthest beyond it.
    pub error: Option<f64>,
    /// The tolerance of that comparison.
    pub tolerance: Option<f64>,
    /// The tensor of that comparison, or the reason of a failure or a skip.
    pub detail: String,
    /// Wall time in seconds.
    pub seconds: f64,
}

impl DeviceCheck {
    /// Whether it did not fail.
    pub fn holds(&self) -> bool {
        self.verdict != Verdict::Failed
    }
}

/// What a check found: comparisons with a remark, or the reason why there is nothing to compare on this device.
enum Found {
    Compared(Vec<Comparison>, String),
    Skipped(String),
}

impl From<Vec<Comparison>> for Found {
    fn from(comparisons: Vec<Comparison>) -> Self {
        Self::Compared(comparisons, String::new())
    }
}

/// The work of a check.
type CheckWork<'a> = Box<dyn Fn() -> Result<Found, TorchError> + 'a>;

/// Runs every check on `device` and tells `observe` of each as it ends. A failing check does not stop the others; an
/// operation of libtorch that panics fails its check.
pub fn run(
    device: Device,
    goldens: &Goldens,
    mut observe: impl FnMut(&DeviceCheck),
) -> Vec<DeviceCheck> {
    let checks = arithmetic::checks(device)
        .into_iter()
        .chain(goldens::checks(device, goldens))
        .chain(networks::checks(device))
        .chain(state::checks(device))
        .chain(graph::checks(device));
    let mut results = Vec::new();
    for (name, work) in checks {
        let start = Instant::now();
        let found = catch_unwind(AssertUnwindSafe(&work));
        let mut result = match found {
            Ok(Ok(found)) => judged(name, found),
            Ok(Err(error)) => failed(name, error.to_string()),
            Err(panic) => failed(name, message(panic.as_ref())),
        };
        result.seconds = start.elapsed().as_secs_f64();
        observe(&result);
        results.push(result);
    }
    results
}

fn judged(name: String, found: Found) -> DeviceCheck {
    let (comparisons, remark) = match found {
        Found::Compared(comparisons, remark) => (comparisons, remark),
        Found::Skipped(reason) => return result(name, Verdict::Skipped, reason),
    };
    let worst = comparisons
        .iter()
        .max_by(|a, b| excess(a).total_cmp(&excess(b)));
    let Some(worst) = worst else {
        return failed(name, "nothing was compared".to_owned());
    };
    let passed = comparisons.iter().all(Comparison::passes);
    let (error, tolerance) = nearest(worst);
    let detail = [worst.tensor.as_str(), &remark];
    let detail: Vec<&str> = detail.into_iter().filter(|text| !text.is_empty()).collect();
    DeviceCheck {
        error: Some(error),
        tolerance: Some(tolerance),
        ..result(
            name,
            if passed {
                Verdict::Passed
            } else {
                Verdict::Failed
            },
            detail.join("; "),
        )
    }
}

/// The error of a comparison as a multiple of its tolerance, infinite where it is not a number.
fn excess(comparison: &Comparison) -> f64 {
    let (error, tolerance) = nearest(comparison);
    share(error, tolerance)
}

/// The relative or the largest error with its tolerance, whichever takes up more of it.
fn nearest(comparison: &Comparison) -> (f64, f64) {
    let Tolerance { relative, max } = comparison.tolerance;
    let pairs = [
        (comparison.relative_error, relative),
        (comparison.max_error, max),
    ];
    let [one, other] = pairs.map(|(error, tolerance)| share(error, tolerance));
    if one >= other { pairs[0] } else { pairs[1] }
}

fn share(error: f64, tolerance: f64) -> f64 {
    match error {
        0.0 => 0.0,
        error if error.is_nan() => f64::INFINITY,
        error => error / tolerance,
    }
}

fn failed(name: String, reason: String) -> DeviceCheck {
    result(name, Verdict::Failed, reason)
}

fn result(name: String, verdict: Verdict, detail: String) -> DeviceCheck {
    DeviceCheck {
        name,
        verdict,
        error: None,
        tolerance: None,
        detail,
        seconds: 0.0,
    }
}

/// What a panic said.
fn message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("a panic without a message").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn comparison(relative_error: f64, max_error: f64, tolerance: Tolerance) -> Comparison {
        Comparison {
            tensor: "x".to_owned(),
            max_error,
            relative_error,
            tolerance,
        }
    }

    #[test]
    fn the_comparison_nearest_to_its_tolerance_is_shown() {
        let found = vec![
            comparison(1e-6, 1.0, Tolerance::new(1e-5, f64::INFINITY)),
            comparison(1e-7, 4e-5, Tolerance::new(1e-5, 5e-5)),
        ];
        let check = judged("a".to_owned(), found.into());
        assert_eq!(check.verdict, Verdict::Passed);
        assert_eq!((check.error, check.tolerance), (Some(4e-5), Some(5e-5)));
    }

    #[test]
    fn what_is_no_number_or_beyond_its_tolerance_fails() {
        for (relative, max) in [(f64::NAN, 0.0), (0.0, f64::NAN), (2e-5, 0.0), (0.0, 6e-5)] {
            let found = vec![comparison(relative, max, Tolerance::new(1e-5, 5e-5))];
            let check = judged("a".to_owned(), found.into());
            assert_eq!(check.verdict, Verdict::Failed, "{relative} {max}");
        }
        assert!(!judged("a".to_owned(), Vec::new().into()).holds());
    }

    #[test]
    fn a_cpu_passes_every_check() {
        tch::set_num_threads(1);
        let goldens = Goldens::embedded().unwrap();
        let checks = run(Device::Cpu, &goldens, |check| {
            println!(
                "{:45} {:?} {:?} of {:?} {} {:.2} s",
                check.name,
                check.verdict,
                check.error,
                check.tolerance,
                check.detail,
                check.seconds
            );
        });
        let failed: Vec<_> = checks.iter().filter(|check| !check.holds()).collect();
        assert!(failed.is_empty(), "{failed:#?}");
        let skipped = checks
            .iter()
            .filter(|check| check.verdict == Verdict::Skipped);
        assert_eq!(skipped.count(), 2, "a CPU has no graphs");
    }
}
