//! The way out where somebody has a VAE in files of another kind.

use std::collections::BTreeSet;
use std::path::Path;

use crate::TorchError;

/// What may lie in a folder in the place of `diffusion_pytorch_model.safetensors`, and what then helps.
const OTHERS: [(&str, &str); 4] = [
    (
        "diffusion_pytorch_model.fp16.safetensors",
        "in half precision; diffusers widens it: AutoencoderKL.from_pretrained(A, variant=\"fp16\").float().save_pretrained(B)",
    ),
    (
        "diffusion_pytorch_model.bin",
        "a pickle, which is not opened; where it is trusted, diffusers converts it: AutoencoderKL.from_pretrained(A).save_pretrained(B)",
    ),
    (
        "diffusion_pytorch_model.fp16.bin",
        "a pickle in half precision, which is not opened; where it is trusted, diffusers converts it: \
         AutoencoderKL.from_pretrained(A, variant=\"fp16\").float().save_pretrained(B)",
    ),
    (
        "diffusion_pytorch_model.safetensors.index.json",
        "of weights in several files; diffusers puts them together: AutoencoderKL.from_pretrained(A).save_pretrained(B)",
    ),
];

/// Parts of names that only the original layout of latent diffusion has.
const ORIGINAL: [&str; 4] = [
    "first_stage_model.",
    "coder.mid.",
    "coder.down.0.block.",
    "coder.up.0.block.",
];

/// Refuses weights that are not there where something else is, naming it.
pub(super) fn refuse_absent(weights: &Path) -> Result<(), TorchError> {
    if weights.exists() {
        return Ok(());
    }
    let other = OTHERS
        .iter()
        .find(|(name, _)| weights.with_file_name(name).is_file());
    match other {
        None => Ok(()),
        Some((name, hint)) => Err(TorchError::File {
            path: weights.to_owned(),
            problem: format!("not there; {name} is there, {hint} (docs/src/latents.md)"),
        }),
    }
}

/// Adds to a list of tensors that do not fit that the file has the original layout, where its names are of that.
pub(super) fn of_layout(error: TorchError, names: &BTreeSet<&str>) -> TorchError {
    let is_original = |name: &&str| ORIGINAL.iter().any(|part| name.contains(part));
    match error {
        TorchError::Weights { path, mut problems } if names.iter().any(is_original) => {
            let hint = "the names are those of the original layout of latent diffusion, which is not read; diffusers converts it: \
                        AutoencoderKL.from_single_file(FILE).save_pretrained(FOLDER) (docs/src/latents.md)";
            problems.insert(0, hint.to_owned());
            TorchError::Weights { path, problems }
        }
        other => other,
    }
}
