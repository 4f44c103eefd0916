//! The device code of `cpp/cuda` keeps its formulas, thread for thread, also where there is no device: it is compiled for the CPU.

use std::path::Path;
use std::process::Command;

/// Rows that fill every lane, rows that do not, and the shortest; heads of the networks here.
#[test]
fn device_code_keeps_its_formulas() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = tempfile::tempdir().unwrap();
    let compiler = std::env::var("CXX").unwrap_or_else(|_| "c++".to_owned());
    for (width, head) in [(4, 24), (100, 64), (128, 72)] {
        let program = folder.path().join(format!("laws{width}"));
        let mut compile = Command::new(&compiler);
        compile.args(["-std=c++20", "-O1", "-pthread", "-x", "c++"]);
        compile.args([format!("-DWIDTH={width}"), format!("-DHEAD={head}")]);
        compile.arg("-I").arg(here.join("cpp/cuda"));
        compile.arg("-o").arg(&program);
        compile.arg(here.join("tests/device_code/laws.cpp"));
        let compiled = compile.output().unwrap();
        let text = String::from_utf8_lossy(&compiled.stderr);
        assert!(compiled.status.success(), "{text}");
        let output = Command::new(&program).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success() && text.is_empty(),
            "width {width}, heads of {head}: {text}"
        );
    }
}
