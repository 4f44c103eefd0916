//! `cargo xtask gpu-kit [--out DIR]`: a folder that checks a GPU and measures it, without cargo, pip and network.

use crate::{command, files, libtorch, program, workspace};
use anyhow::{Context, Result, bail, ensure};
use serde_json::json;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Where the kit goes.
#[derive(clap::Args)]
pub(crate) struct GpuKit {
    /// The folder, new or an older kit, which is replaced [default: gpu-kit in the build folder].
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// A kit is carried to machines over slow lines.
const LIMIT_MIB: f64 = 60.0;
/// The programs.
const PROGRAMS: [&str; 5] = ["kit", "meanflow", "measure", "sample", "step"];
/// The name of the CUDA tests' program.
const TESTS: &str = "cuda";
/// Folders of the workspace that go along, with the endings of the files wanted.
const FOLDERS: [(&str, &str, &[&str]); 4] = [
    (
        "crates/meanflow-goldens/files",
        "goldens",
        &["json", "safetensors"],
    ),
    (
        "crates/meanflow-goldens/files/vae_a",
        "goldens/vae_a",
        &["json", "safetensors"],
    ),
    ("configs", "configs", &["toml"]),
    ("benches/peers", "benches/peers", &["py"]),
];
/// The file by which a kit is known.
const ABOUT: &str = "kit.json";
const SCRIPT: &str = include_str!("gpu_kit/run.sh");

/// Builds everything, puts it into the folder and says how large that is.
pub(crate) fn run(args: &GpuKit) -> Result<()> {
    command::require_cxx()?;
    libtorch::ensure()?;
    let tests = build()?;
    let default = || workspace::target().join("gpu-kit");
    let out = args.out.clone().unwrap_or_else(default);
    clear(&out)?;
    let release = workspace::target().join("release");
    for program in PROGRAMS {
        program::strip(&release.join(program), &out.join("bin").join(program))?;
    }
    program::strip(&tests, &out.join("tests/cuda"))?;
    let root = workspace::root();
    for (from, to, endings) in FOLDERS {
        copy_files(&root.join(from), &out.join(to), endings)?;
    }
    files::copy(
        &root.join("benches/sizes.json"),
        &out.join("benches/sizes.json"),
    )?;
    let script = out.join("run.sh");
    files::write(&script, SCRIPT)?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
    let about = json!({ "commit": commit(), "libtorch": "2.11.0" });
    files::write(&out.join(ABOUT), format!("{about:#}\n"))?;
    let mib = files::size(&out)? as f64 / f64::from(1 << 20);
    ensure!(
        mib <= LIMIT_MIB,
        "{}: expected at most {LIMIT_MIB} MiB, got {mib:.1}",
        out.display()
    );
    println!("{}: {mib:.1} MiB of at most {LIMIT_MIB}", out.display());
    Ok(())
}

/// Builds the programs and the program of the CUDA tests, `tests/cuda.rs` of a crate, which it finds.
///
/// It is one command over the whole workspace, so that all of it has the features of packages that `cargo nextest run
/// --workspace` builds with: where the tests were built, nothing is compiled anew.
fn build() -> Result<PathBuf> {
    let mut build = command::cargo();
    build.args(["build", "--release", "--workspace", "--bins"]);
    build.args(["--test", TESTS, "--message-format=json-render-diagnostics"]);
    let lines = command::answer(build.stderr(Stdio::inherit()))?;
    let executable = |line: &str| -> Option<PathBuf> {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        let is_test = message["target"]["name"] == TESTS;
        message["executable"]
            .as_str()
            .filter(|_| is_test)
            .map(PathBuf::from)
    };
    let found = lines.lines().find_map(executable);
    found.context("cargo did not say where the CUDA tests are")
}

/// Makes the folder empty. One that holds anything but a kit is left alone.
fn clear(out: &Path) -> Result<()> {
    if out.join(ABOUT).is_file() {
        files::remove(out)?;
    } else if out.is_dir() && !files::entries(out)?.is_empty() {
        bail!("{}: is neither empty nor a kit", out.display());
    }
    ["bin", "tests"]
        .iter()
        .try_for_each(|folder| files::make_folder(&out.join(folder)))
}

fn copy_files(from: &Path, to: &Path, endings: &[&str]) -> Result<()> {
    files::make_folder(to)?;
    for path in files::entries(from)? {
        if endings.iter().any(|ending| files::ends(&path, ending)) {
            files::copy(&path, &to.join(files::name(&path)))?;
        }
    }
    Ok(())
}

/// The commit of the checkout, marked where files differ from it; none outside of git.
fn commit() -> Option<String> {
    let mut git = Command::new("git");
    git.args(["describe", "--always", "--dirty", "--abbrev=12"]);
    let said = command::answer(git.current_dir(workspace::root()));
    said.ok().map(|text| text.trim().to_owned())
}
