//! `cargo xtask test`: everything that must hold before a change is accepted, one step after the other.

use crate::{command, libtorch, pages, soak, supply, tidy};
use anyhow::{Context, Result};
use std::time::Instant;

/// Runs every step, prints its time, stops at the first that fails.
///
/// Everything is built in release: one profile compiles libtorch's bindings once, for training and tests alike.
pub(crate) fn run() -> Result<()> {
    let started = Instant::now();
    step("compiler", command::require_cxx)?;
    step("libtorch", libtorch::ensure)?;
    step("format", || cargo("fmt --all --check"))?;
    step("lints", || {
        cargo("clippy --workspace --all-targets --release -- --deny warnings")
    })?;
    step("tests", tests)?;
    step("doctests", || cargo("test --doc --workspace --release"))?;
    step("soak", || {
        soak::run(&soak::Soak {
            small: true,
            only: Vec::new(),
            seed: 1,
        })
    })?;
    step("pages", || pages::run(&pages::Pages { only: Vec::new() }))?;
    step("dependencies", supply::run)?;
    step("tidy", tidy::run)?;
    println!("all is well ({:.1} s)", started.elapsed().as_secs_f64());
    Ok(())
}

/// One named step with its wall time.
fn step(name: &str, work: impl FnOnce() -> Result<()>) -> Result<()> {
    println!("── {name}");
    let started = Instant::now();
    work().with_context(|| format!("step `{name}` failed; nothing after it was run"))?;
    println!("── {name}: {:.1} s", started.elapsed().as_secs_f64());
    Ok(())
}

/// All tests but doctests: by nextest where it is installed. Tests start examples, which `--all-targets` builds as tests only.
fn tests() -> Result<()> {
    cargo("build --workspace --examples --release")?;
    if command::works("cargo-nextest", &["nextest", "--version"])? {
        return cargo("nextest run --workspace --all-targets --release");
    }
    cargo("test --workspace --all-targets --release")
}

fn cargo(line: &str) -> Result<()> {
    command::succeed(command::cargo().args(line.split_whitespace()))
}
