//! Before they are timed, rivals must compute the same loss and gradients from the same weights and batch.

use super::rival::Rival;
use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// How far a variant is from ours, each number relative to ours.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Errors {
    /// Of the scalar loss.
    loss: f64,
    /// Of |u − v|² in the row where it is most.
    v_loss: f64,
    /// Of all gradients together, in the Euclidean norm.
    gradient: f64,
    /// Of the gradient of the parameter where it is most.
    worst: f64,
    /// That parameter.
    worst_name: String,
}

/// All compute in f32, whose roundings of 6e-8 every library sums in another order. Up to 8e-7 apart at the digits and S/4 sizes; larger
/// networks sum more.
const BOUND: f64 = 5e-6;
/// A single parameter may have a gradient that is small against the terms it is summed from; up to 1e-6 apart.
const WORST: f64 = 1e-5;

impl Errors {
    /// Whether every one is within what rounding in f32 explains.
    pub(crate) fn hold(&self) -> bool {
        // So written that what is not a number does not hold.
        [self.loss, self.v_loss, self.gradient]
            .iter()
            .all(|error| *error < BOUND)
            && self.worst < WORST
    }

    /// The largest of them.
    pub(crate) fn largest(&self) -> f64 {
        [self.v_loss, self.gradient, self.worst]
            .into_iter()
            .fold(self.loss, f64::max)
    }
}

/// Asks every rival for its errors on the file, and prints them.
///
/// # Errors
/// If a variant computes something else.
pub(super) fn prove(peers: &mut [(Rival, Vec<&str>)], file: &Path, title: &str) -> Result<()> {
    println!("{title}: relative distance from ours, with the same weights and batch");
    println!(
        "{:<18} {:>9} {:>11} {:>10} {:>9}  parameter of the worst gradient",
        "variant", "loss", "v_loss", "gradients", "worst"
    );
    let mut wrong = Vec::new();
    for (rival, _) in peers {
        let errors: BTreeMap<String, Errors> = rival.ask(&format!("prove {}", file.display()))?;
        for (variant, found) in errors {
            println!(
                "{variant:<18} {:>9.1e} {:>11.1e} {:>10.1e} {:>9.1e}  {}",
                found.loss, found.v_loss, found.gradient, found.worst, found.worst_name
            );
            if !found.hold() {
                wrong.push(variant);
            }
        }
    }
    if wrong.is_empty() {
        return Ok(());
    }
    bail!(
        "{} computes something else: expected less than {BOUND:e} and, for a single parameter, {WORST:e}",
        wrong.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_counts() {
        let errors = |loss, v_loss, gradient, worst| Errors {
            loss,
            v_loss,
            gradient,
            worst,
            worst_name: "w".to_owned(),
        };
        assert!(errors(1e-7, 1e-6, 1e-6, 5e-6).hold());
        for wrong in [
            errors(1e-3, 0.0, 0.0, 0.0),
            errors(0.0, 1e-3, 0.0, 0.0),
            errors(0.0, 0.0, 1e-3, 0.0),
            errors(0.0, 0.0, 0.0, 1e-2),
            errors(0.0, 0.0, f64::NAN, 0.0),
            errors(0.0, 0.0, 0.0, f64::NAN),
        ] {
            assert!(!wrong.hold(), "{wrong:?}");
        }
    }
}
