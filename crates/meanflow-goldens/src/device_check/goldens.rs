//! The golden files of the official implementations, on the device in f32 and f64.

use std::fs;
use std::path::{Path, PathBuf};

use meanflow_torch::{JvpMethod, TorchError};
use tch::{Device, Kind};
use tempfile::TempDir;

use super::{CheckWork, Found};
use crate::Setting;

/// A folder of golden files.
#[derive(Debug)]
pub struct Goldens {
    files: Vec<PathBuf>,
    /// The folder of the embedded files, which is removed with this value.
    _unpacked: Option<TempDir>,
}

/// About 2.9 MB: a program that checks devices needs no file beside it.
const FILES: [(&str, &[u8]); 14] = {
    macro_rules! files {
        ($($name:literal),* $(,)?) => {
            [$(($name, include_bytes!(concat!("../../files/", $name)).as_slice())),*]
        };
    }
    files![
        "adamw_ema_a.json",
        "adamw_ema_a.safetensors",
        "dit_official_a.json",
        "dit_official_a.safetensors",
        "sampling_a.json",
        "sampling_a.safetensors",
        "songunet_official_a.json",
        "songunet_official_a.safetensors",
        "step_official_a.json",
        "step_official_a.safetensors",
        "vae_a.json",
        "vae_a.safetensors",
        "vae_a/config.json",
        "vae_a/diffusion_pytorch_model.safetensors",
    ]
};

impl Goldens {
    /// Those that this crate carries, written into a temporary folder that lives as long as this value.
    ///
    /// # Errors
    /// If the folder cannot be written.
    pub fn embedded() -> Result<Self, TorchError> {
        let place = std::env::temp_dir();
        let folder = TempDir::new().map_err(|source| io("make a folder in", &place, source))?;
        for (name, bytes) in FILES {
            let path = folder.path().join(name);
            let parent = path.parent().unwrap_or(&path);
            fs::create_dir_all(parent).map_err(|source| io("make", parent, source))?;
            fs::write(&path, bytes).map_err(|source| io("write", &path, source))?;
        }
        let files = listed(folder.path())?;
        Ok(Self {
            files,
            _unpacked: Some(folder),
        })
    }

    /// Every `NAME.safetensors` of a folder that has `NAME.json` beside it, by name.
    ///
    /// # Errors
    /// If the folder cannot be read, or holds none.
    pub fn folder(path: &Path) -> Result<Self, TorchError> {
        let files = listed(path)?;
        if files.is_empty() {
            return Err(TorchError::File {
                path: path.to_owned(),
                problem: "expected golden files, NAME.safetensors with NAME.json; there are none"
                    .to_owned(),
            });
        }
        Ok(Self {
            files,
            _unpacked: None,
        })
    }
}

fn listed(folder: &Path) -> Result<Vec<PathBuf>, TorchError> {
    let read = |source| io("read", folder, source);
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(read)? {
        let path = entry.map_err(read)?.path();
        let is_tensors = path
            .extension()
            .is_some_and(|extension| extension == "safetensors");
        if is_tensors && path.with_extension("json").is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn io(operation: &'static str, path: &Path, source: std::io::Error) -> TorchError {
    TorchError::Io {
        operation,
        path: path.to_owned(),
        source,
    }
}

pub(super) fn checks(device: Device, goldens: &Goldens) -> Vec<(String, CheckWork<'_>)> {
    let mut checks: Vec<(String, CheckWork<'_>)> = Vec::new();
    for file in &goldens.files {
        for (dtype, kind) in [("f32", Kind::Float), ("f64", Kind::Double)] {
            let setting = Setting {
                device,
                kind,
                jvp: JvpMethod::Dual,
            };
            let stem = file.file_stem().unwrap_or_default().to_string_lossy();
            let work = move || {
                let report = crate::check(file, &setting)?;
                let remark = match report.unchecked.len() {
                    0 => String::new(),
                    count => format!("{count} results of the file were not computed"),
                };
                Ok(Found::Compared(report.comparisons, remark))
            };
            checks.push((format!("golden {stem}, {dtype}"), Box::new(work)));
        }
    }
    checks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_golden_of_this_crate_is_embedded() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("files");
        let names = |goldens: &Goldens| -> Vec<_> {
            let names = goldens.files.iter().map(|file| file.file_name().unwrap());
            names.map(ToOwned::to_owned).collect()
        };
        let (embedded, there) = (Goldens::embedded(), Goldens::folder(&folder));
        assert_eq!(names(&embedded.unwrap()), names(&there.unwrap()));
    }

    #[test]
    fn a_folder_without_goldens_is_refused() {
        let empty = TempDir::new().unwrap();
        let error = Goldens::folder(empty.path()).unwrap_err().to_string();
        assert!(error.contains("golden files"), "{error}");
    }
}
