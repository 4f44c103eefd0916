//! Python programs beside ours: each kind in a virtual environment of its own in the user's cache folder.

use crate::{command, files, workspace};
use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A virtual environment.
pub(crate) struct Environment {
    folder: &'static str,
    packages: &'static [&'static str],
}

/// For the benchmark's peers (some GB of downloads: PyTorch with its CUDA libraries).
pub(crate) const PEERS: Environment = Environment {
    folder: "peers",
    packages: &["torch==2.11.0", "jax", "numpy", "safetensors"],
};

/// For the script that draws from exported models.
pub(crate) const INTERCHANGE: Environment = Environment {
    folder: "interchange",
    packages: &[
        "torch==2.11.0",
        "numpy",
        "safetensors",
        "onnx",
        "onnxruntime",
    ],
};

/// For the scripts that score samples.
pub(crate) const SCORES: Environment = Environment {
    folder: "scores",
    packages: &["numpy", "scikit-learn"],
};

impl Environment {
    /// The user's own Python, where there is one, otherwise the environment's; that is made the first time.
    pub(crate) fn python(&self, own: Option<&Path>) -> Result<PathBuf> {
        if let Some(own) = own {
            return Ok(own.to_owned());
        }
        let folder = workspace::cache()?.join(self.folder);
        let python = folder.join("bin/python");
        let complete = folder.join("complete");
        let packages = self.packages.join("\n");
        if fs::read_to_string(&complete).is_ok_and(|made| made == packages) {
            return Ok(python);
        }
        eprintln!("making a Python environment in {}", folder.display());
        let mut venv = Command::new("python3");
        command::succeed(venv.args(["-m", "venv", "--clear"]).arg(&folder)).context(
            "this needs Python with venv (Debian, Ubuntu: `apt install python3-venv`), or --python PATH",
        )?;
        let mut install = Command::new(&python);
        command::succeed(install.args(["-m", "pip", "install"]).args(self.packages)).with_context(
            || {
                let packages = self.packages.join(", ");
                format!("cannot install {packages}; name a Python that has them: --python PATH")
            },
        )?;
        files::write(&complete, packages)?;
        Ok(python)
    }
}
