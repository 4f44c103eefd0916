//! The GPU kit, built, carried to another folder, and run there on the CPU as on a machine that has nothing else.

use std::env;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// A folder outside of the checkout with the kit and a `PATH` of its own.
struct Place {
    folder: TempDir,
    torch: PathBuf,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let built = folder.path().join("built");
        let status = Command::new(env!("CARGO_BIN_EXE_xtask"))
            .arg("gpu-kit")
            .arg("--out")
            .arg(&built)
            .status();
        assert!(status.unwrap().success());
        fs::rename(&built, folder.path().join("kit")).unwrap();
        let bin = folder.path().join("bin");
        fs::create_dir(&bin).unwrap();
        // What run.sh needs of the system: a shell and coreutils.
        let path = env::var_os("PATH").unwrap();
        for name in ["sh", "dirname", "cat"] {
            let mut places = env::split_paths(&path).map(|place| place.join(name));
            symlink(
                places.find(|place| place.is_file()).unwrap(),
                bin.join(name),
            )
            .unwrap();
        }
        let libtorch = env::var_os("LIBTORCH").map(PathBuf::from);
        let checkout = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.libtorch");
        let torch = libtorch.unwrap_or(checkout).join("lib");
        Self {
            folder,
            torch: fs::canonicalize(torch).unwrap(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// `run.sh` with nothing in its environment but that `PATH`, and one thread an operation: beside other tests a second one
    /// waits for a processor.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.path("bin/sh"));
        command.arg(self.path("kit/run.sh"));
        command
            .args(["--device", "cpu", "--torch"])
            .arg(&self.torch);
        command.args(arguments);
        command.env_clear().env("PATH", self.path("bin"));
        command.envs([("OMP_NUM_THREADS", "1"), ("OMP_WAIT_POLICY", "passive")]);
        command.current_dir(self.folder.path());
        command
    }

    fn report(&self, folder: &str) -> Value {
        let text = fs::read(self.path(folder).join("report.json")).unwrap();
        serde_json::from_slice(&text).unwrap()
    }
}

/// Status and number of rows of every phase.
fn phases(report: &Value) -> Vec<(String, String, usize)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let phases = report["phases"].as_array().unwrap().iter();
    phases
        .map(|phase| {
            let rows = phase["rows"].as_array().unwrap().len();
            (text(&phase["phase"]), text(&phase["status"]), rows)
        })
        .collect()
}

fn shown(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    format!("{}{}", text(&output.stdout), text(&output.stderr))
}

/// One test, so that the kit is built once.
#[test]
fn the_kit_runs_where_nothing_else_is() {
    let place = Place::new();
    everything(&place);
    a_killed_phase_leaves_the_others(&place);
    a_golden_with_another_number_fails(&place);
    a_wrong_folder_of_libtorch_is_refused(&place);
}

fn everything(place: &Place) {
    let output = place.command(&["--minutes", "3"]).output().unwrap();
    let report = place.report("report");
    assert!(output.status.success(), "{}{report:#}", shown(&output));
    for (phase, status, rows) in phases(&report) {
        match phase.as_str() {
            // A Python of this machine at a usual place may have torch.
            "rivals" => assert!(!status.starts_with("FAILED"), "{status}"),
            // On a busy machine its time may not be enough for every result.
            "digits" | "steps" | "sampling" => assert!(!status.starts_with("FAILED"), "{status}"),
            _ => assert!(
                status == "done" && rows > 0,
                "{phase}: {status}, {rows} rows"
            ),
        }
    }
    let page = fs::read_to_string(place.path("report/report.md")).unwrap();
    assert!(page.starts_with("# GPU kit: all is well"), "{page}");
    assert!(page.contains("golden dit_official_a, f32"), "{page}");
    assert!(page.contains("| eager | matrix products |"), "{page}");
    assert!(page.contains("| eager | gaps |"), "{page}");
    assert!(page.contains("| all-reduce | eager | passed |"), "{page}");
}

fn a_killed_phase_leaves_the_others(place: &Place) {
    let arguments = ["--minutes", "100", "--only", "a,c,group", "--out", "killed"];
    let mut run = place.command(&arguments).spawn().unwrap();
    let program = fs::canonicalize(place.path("kit/bin/meanflow")).unwrap();
    let start = Instant::now();
    let process = loop {
        assert!(
            start.elapsed() < Duration::from_secs(120),
            "no training began"
        );
        // Of the phase before, which is short, none is left when the log of this one is there.
        let begun = place.path("killed/digits/metrics.jsonl").is_file();
        if let Some(process) = process_of(&program).filter(|_| begun) {
            break process;
        }
        thread::sleep(Duration::from_millis(20));
    };
    let mut kill = Command::new("sh");
    kill.args(["-c", &format!("kill -9 {process}")]);
    assert!(kill.status().unwrap().success());
    assert!(!run.wait().unwrap().success());
    let found = phases(&place.report("killed"));
    let statuses: Vec<&str> = found.iter().map(|phase| phase.1.as_str()).collect();
    assert_eq!(statuses[0], "done", "{found:?}");
    assert!(statuses[1].contains("FAILED: signal: 9"), "{found:?}");
    assert_eq!(statuses[2], "done", "{found:?}");
    let page = fs::read_to_string(place.path("killed/report.md")).unwrap();
    assert!(
        page.contains("something FAILED") && page.contains("processor"),
        "{page}"
    );
}

/// The process that runs a program.
fn process_of(program: &Path) -> Option<u32> {
    let mut entries = fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    entries.find_map(|entry| {
        let id = entry.file_name().to_str()?.parse().ok()?;
        (fs::read_link(entry.path().join("exe")).ok()? == program).then_some(id)
    })
}

fn a_golden_with_another_number_fails(place: &Place) {
    let golden = place.path("kit/goldens/sampling_a.safetensors");
    let mut bytes = fs::read(&golden).unwrap();
    // The exponent of one number in the middle: a parameter, a noise or a result, all of which count.
    let middle = bytes.len() / 2 / 4 * 4 + 3;
    bytes[middle] ^= 0x02;
    fs::write(&golden, bytes).unwrap();
    let arguments = [
        "--minutes",
        "3",
        "--only",
        "correctness",
        "--out",
        "changed",
    ];
    let output = place.command(&arguments).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", shown(&output));
    let report = place.report("changed");
    let status = &phases(&report)[0].1;
    // In f32, in f64, and in the program of the CUDA tests.
    assert!(
        status.contains("FAILED: 3 failed, first golden sampling_a, f32"),
        "{status}"
    );
}

fn a_wrong_folder_of_libtorch_is_refused(place: &Place) {
    let mut command = place.command(&["--torch", "/nowhere"]);
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(shown(&output).contains("/nowhere: holds no libtorch for cpu"));
}
