//! `meanflow doctor`: what this program finds on this machine.

use std::env;
use std::fs;
use std::path::Path;
use std::thread;

use meanflow_torch::{device, loaded_version};
use meanflow_train::free_space;
use serde_json::{Value, json};

use crate::output::{is_json, say};

/// Say what the program finds on this machine: versions, libtorch, devices, threads, memory, disk.
///
/// This is what a report of a problem should have with it.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  meanflow doctor --json > doctor.json")]
pub(crate) struct Doctor {}

pub(crate) fn run(_args: &Doctor) -> anyhow::Result<u8> {
    let facts = facts();
    if is_json() {
        let object: serde_json::Map<String, Value> = facts
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect();
        say(format_args!("{:#}", Value::Object(object)));
        return Ok(0);
    }
    for (name, value) in facts {
        match value {
            Value::String(text) => say(format_args!("{name:<22} {text}")),
            Value::Null => say(format_args!("{name:<22} not known")),
            value => say(format_args!("{name:<22} {value}")),
        }
    }
    Ok(0)
}

/// Names and values, in the order in which they are shown. Nothing here fails: what cannot be found is said to be so.
fn facts() -> Vec<(&'static str, Value)> {
    let said = |result: Result<String, String>| match result {
        Ok(text) => text,
        Err(error) => format!("error: {error}"),
    };
    let libtorch = said(loaded_version().map_err(|error| error.to_string()));
    let cuda = match device::open("cuda") {
        Ok(_) => format!("{} devices", tch::Cuda::device_count()),
        Err(error) => one_line(&error.to_string()),
    };
    let folder = env::current_dir().unwrap_or_default();
    vec![
        ("meanflow", json!(env!("CARGO_PKG_VERSION"))),
        ("revision", json!(env!("MEANFLOW_REVISION"))),
        ("libtorch", json!(libtorch)),
        ("libtorch_file", json!(mapped("libtorch_cpu.so"))),
        ("cuda", json!(cuda)),
        ("cudnn", json!(tch::Cuda::cudnn_is_available())),
        ("system", json!(system())),
        ("processor", json!(field("/proc/cpuinfo", "model name"))),
        (
            "cores",
            json!(thread::available_parallelism().ok().map(usize::from)),
        ),
        ("threads", json!(tch::get_num_threads())),
        ("memory_mib", json!(mebibytes("MemTotal"))),
        ("free_memory_mib", json!(mebibytes("MemAvailable"))),
        ("folder", json!(folder)),
        (
            "free_disk_mib",
            json!(free_space(&folder).map(|bytes| bytes >> 20)),
        ),
        ("environment", json!(environment())),
    ]
}

/// A text of several lines in one.
fn one_line(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    lines.join(" ")
}

/// The file of a library as the process has it in memory.
fn mapped(name: &str) -> Option<String> {
    let maps = fs::read_to_string("/proc/self/maps").ok()?;
    let is_it = |path: &&str| Path::new(path).file_name().is_some_and(|file| file == name);
    // What comes before a path has no slash; the path may have blanks.
    let mut paths = maps.lines().filter_map(|line| line.get(line.find('/')?..));
    paths.find(is_it).map(str::to_owned)
}

fn system() -> String {
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let name = field("/etc/os-release", "PRETTY_NAME").unwrap_or_default();
    let name = name.trim_matches('"');
    let (system, architecture) = (env::consts::OS, env::consts::ARCH);
    format!("{name} · {system} {} {architecture}", kernel.trim())
}

/// The value of a line `NAME : VALUE` or `NAME=VALUE` of a file.
fn field(path: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    Some(
        line.trim_start()
            .trim_start_matches([':', '='])
            .trim()
            .to_owned(),
    )
}

/// A line of `/proc/meminfo`.
fn mebibytes(name: &str) -> Option<u64> {
    let kibibytes: u64 = field("/proc/meminfo", name)?
        .strip_suffix(" kB")?
        .parse()
        .ok()?;
    Some(kibibytes / 1024)
}

/// The variables that this program, libtorch or its threads look at, where they are set.
fn environment() -> Vec<String> {
    const NAMES: [&str; 9] = [
        "LIBTORCH",
        "LD_LIBRARY_PATH",
        "MEANFLOW_TORCH_LIB",
        "CUDA_VISIBLE_DEVICES",
        "OMP_NUM_THREADS",
        "OMP_WAIT_POLICY",
        "RUST_LOG",
        "RANK",
        "WORLD_SIZE",
    ];
    let set = NAMES.iter().filter_map(|name| {
        let value = env::var_os(name)?;
        Some(format!("{name}={}", value.to_string_lossy()))
    });
    set.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_of_a_file_is_found_by_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        fs::write(&path, "one\t: 1\nNAME=\"two\"\n").unwrap();
        let path = path.to_str().unwrap();
        assert_eq!(field(path, "one").unwrap(), "1");
        assert_eq!(field(path, "NAME").unwrap(), "\"two\"");
        assert_eq!(field(path, "three"), None);
        assert!(mebibytes("MemTotal").is_none_or(|memory| memory > 0));
    }
}
