//! A folder to work in, and the binary run inside it.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use tempfile::TempDir;

/// Networks of this size are not worth a second thread, which would wait for a core beside other tests; and one alone waits for nobody.
const ONE_THREAD: [(&str, &str); 2] = [("OMP_NUM_THREADS", "1"), ("OMP_WAIT_POLICY", "passive")];

/// A recipe that takes a fraction of a second.
pub(crate) const RECIPE: &str = r#"
seed = 3
data = { kind = "checkerboard", size = 500 }
network = { kind = "mlp", width = 16, depth = 2, embedding = "th" }
path = { kind = "linear" }
optimizer = { kind = "adamw", beta1 = 0.9, beta2 = 0.95, epsilon = 1e-8, weight_decay = 0.01 }

lr = { schedule = "cosine",    peak = 1e-2, warmup_steps = 0, final_ratio = 0.1 }
loss = { norm_p = 1.0, norm_eps = 0.01, reduction = "sum" }
ema = { decays = [0.9] }
training = { batch_size = 32, steps = 20, checkpoint_every = 10, sample_every = 10, log_every = 1 }
sampling = { grid = [4, 4], nfe = [1, 2] }

[times]
t = { kind = "uniform" }
mean_flow_ratio = { count = 0.5 }
order = "after-ordering"
"#;

/// Changes to the recipe whose steps never end, as far as a test is concerned.
pub(crate) const ENDLESS: [&str; 8] = [
    "--set",
    "training.steps=1000000",
    "--set",
    "training.checkpoint_every=1000000",
    "--set",
    "training.sample_every=1000000",
    "--set",
    "lr={ schedule = \"constant\", peak = 1e-3, warmup_steps = 0 }",
];

/// The words of a command line in which none holds a space.
pub(crate) fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

/// A folder of its own for a test.
pub(crate) struct Scene {
    folder: TempDir,
}

impl Scene {
    /// An empty folder.
    pub(crate) fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    /// A path in it.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A new file in it; its name.
    pub(crate) fn file(&self, name: &str, text: &str) -> String {
        fs::write(self.path(name), text).unwrap();
        name.to_owned()
    }

    /// The recipe as a file; its name.
    pub(crate) fn recipe(&self) -> String {
        self.file("tiny.toml", RECIPE)
    }

    /// The weights of a finished run.
    pub(crate) fn trained(&self, name: &str) -> PathBuf {
        self.succeeds(&["train", &self.recipe(), "--out", name]);
        self.path(name).join("model.safetensors")
    }

    /// Runs the program, which must end well; its standard output.
    pub(crate) fn succeeds(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {error}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs the program, which must end with this code and say why; its standard error.
    pub(crate) fn fails(&self, code: i32, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {error}");
        assert!(
            error.contains("error: ") || error.contains("Usage"),
            "{arguments:?}: {error}"
        );
        assert!(!error.contains("panicked"), "{arguments:?}: {error}");
        error
    }

    /// Runs the program from a shell script that executes `"$@"`; exit code and standard error.
    pub(crate) fn runs_under(&self, script: &str, arguments: &[&str]) -> (i32, String) {
        let mut command = Command::new("bash");
        command
            .args(["-c", script, "bash", env!("CARGO_BIN_EXE_meanflow")])
            .args(arguments);
        let output = command
            .envs(ONE_THREAD)
            .current_dir(self.folder.path())
            .output()
            .unwrap();
        (
            output.status.code().unwrap_or(-1),
            String::from_utf8(output.stderr).unwrap(),
        )
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// The program with these arguments, in the folder.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_meanflow"));
        command
            .args(arguments)
            .envs(ONE_THREAD)
            .current_dir(self.folder.path());
        command
    }
}
