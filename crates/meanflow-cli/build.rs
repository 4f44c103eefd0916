//! Build script of the program: where libtorch is, and which revision of the source this is.

use std::process::Command;

#[path = "../meanflow-libtorch/rpath.rs"]
mod rpath;

fn main() {
    rpath::main();
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=../meanflow-libtorch/rpath.rs");
    // Every commit and every change of branch adds a line to this log.
    if let Some(log) = git(&["rev-parse", "--git-path", "logs/HEAD"]) {
        println!("cargo::rerun-if-changed={log}");
    }
    let revision = git(&["rev-parse", "--short=10", "HEAD"]);
    let revision = revision.unwrap_or_else(|| "unknown revision".to_owned());
    println!("cargo::rustc-env=MEANFLOW_REVISION={revision}");
}

/// What git answers, if it is there and this is a checkout.
fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output
        .status
        .success()
        .then(|| text.trim().to_owned())
        .filter(|text| !text.is_empty())
}
