//! Phase a: what machine this is, of the system's own files and of the driver's program.

use super::Session;
use super::report::Status;
use crate::command;
use anyhow::Result;
use serde_json::json;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

pub(super) fn run(session: &mut Session<'_>) -> Result<Status> {
    let mut facts = vec![
        ("system", read("/proc/version")),
        ("processor", field("/proc/cpuinfo", "model name")),
        ("memory", field("/proc/meminfo", "MemTotal")),
        ("free memory", field("/proc/meminfo", "MemAvailable")),
        ("load", read("/proc/loadavg")),
    ];
    let cores = std::thread::available_parallelism().ok();
    facts.push(("cores", cores.map(|cores| cores.to_string())));
    let shown = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
    let torch = session.kit.torch.clone();
    facts.push(("libtorch", shown(&torch)));
    let version = torch.and_then(|folder| read(folder.join("../version.py").to_str()?));
    let version = version.and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("__version__"))?;
        line.split('\'').nth(1).map(str::to_owned)
    });
    facts.push(("version of torch", version));
    facts.push(("Python with torch", shown(&session.kit.python)));
    facts.push(("Python with jax", shown(&session.kit.jax)));
    let query =
        "--query-gpu=name,driver_version,memory.total,memory.used,clocks.max.sm,power.limit";
    facts.push((
        "GPU (name, driver, memory, in use, clock, power)",
        answer("nvidia-smi", &[query, "--format=csv,noheader"]),
    ));
    for (fact, value) in facts {
        if let Some(value) = value {
            session
                .report
                .row(json!({ "fact": fact, "value": value.trim() }))?;
        }
    }
    // The first program that loads libtorch: on a fresh machine this reads it from the disk.
    let mut version = session.kit.program("meanflow");
    version.arg("--version");
    session.hear(version, |report, line| {
        report.row(json!({ "fact": "program", "value": line }))
    })
}

fn read(path: &str) -> Option<String> {
    fs::read_to_string(path).ok()
}

/// The value of a `name: value` line.
fn field(path: &str, name: &str) -> Option<String> {
    let text = read(path)?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    line.split_once(':')
        .map(|(_, value)| value.trim().to_owned())
}

/// What a program of the system says, if it is there.
fn answer(program: &str, args: &[&str]) -> Option<String> {
    let places = ["/usr/bin", "/usr/local/bin", "/usr/lib/wsl/lib"];
    let found = places.iter().map(|place| Path::new(place).join(program));
    let program = found.into_iter().find(|path| path.is_file())?;
    command::answer(Command::new(program).args(args).stdin(Stdio::null())).ok()
}
