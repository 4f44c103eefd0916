//! The names and layouts of the official weights, and ours.
//!
//! | | Flax (the JAX repositories) | PyTorch | ours |
//! |---|---|---|---|
//! | root | `net/` | | |
//! | separator | `/` | `.` | `.` |
//! | item of a list | `layers_3` | `3` | `3` |
//! | affine map | `…/_flax_linear/kernel` `[in, out]` | `….weight` `[out, in]` | as PyTorch |
//! | convolution | `…/kernel` `[height, width, in, out]` | `….weight` `[out, in, height, width]` | as PyTorch |
//! | label table | `…/_flax_embedding/embedding` `[classes + 1, width]` | `….weight` | as PyTorch |
//! | bias | `bias` | `bias` | `bias` |

use tch::Tensor;

/// How a framework names and stores parameters.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Layout {
    /// Flax modules of the official JAX repositories, flattened with `/`.
    Flax,
    /// `state_dict` of PyTorch modules.
    PyTorch,
}

impl Layout {
    /// Our name of a parameter, and its values as we store them.
    pub fn import(self, name: &str, tensor: &Tensor) -> (String, Tensor) {
        match self {
            Self::Flax => (from_flax(name), to_torch_order(name, tensor)),
            Self::PyTorch => (name.to_owned(), tensor.shallow_clone()),
        }
    }

    /// Their name of one of our parameters, and its values as they store them.
    pub fn export(self, name: &str, tensor: &Tensor) -> (String, Tensor) {
        match self {
            Self::Flax => {
                let theirs = to_flax(name);
                let values = to_flax_order(&theirs, tensor);
                (theirs, values)
            }
            Self::PyTorch => (name.to_owned(), tensor.shallow_clone()),
        }
    }
}

/// The root of every name in the official Flax files.
const ROOT: &str = "net/";
/// Flax wraps its layers once more; these carry no meaning.
const WRAPPERS: [&str; 2] = ["_flax_linear", "_flax_embedding"];

fn from_flax(name: &str) -> String {
    let name = name.strip_prefix(ROOT).unwrap_or(name);
    let parts = name
        .split('/')
        .filter(|part| !WRAPPERS.contains(part))
        .map(|part| match part {
            "kernel" | "embedding" => "weight",
            part => part.strip_prefix("layers_").unwrap_or(part),
        });
    parts.collect::<Vec<_>>().join(".")
}

fn to_flax(name: &str) -> String {
    let (layer, leaf) = name.rsplit_once('.').unwrap_or(("", name));
    let path = layer.split('.').map(|part| {
        if part.bytes().all(|byte| byte.is_ascii_digit()) {
            format!("layers_{part}")
        } else {
            part.to_owned()
        }
    });
    let path = path.collect::<Vec<_>>().join("/");
    match (layer, leaf) {
        (_, "weight") if layer.ends_with("embedding_table") => {
            format!("{ROOT}{path}/_flax_embedding/embedding")
        }
        ("x_embedder.proj", "weight") => format!("{ROOT}{path}/kernel"),
        ("x_embedder.proj", _) => format!("{ROOT}{path}/{leaf}"),
        (_, "weight") => format!("{ROOT}{path}/_flax_linear/kernel"),
        _ => format!("{ROOT}{path}/_flax_linear/{leaf}"),
    }
}

fn to_torch_order(flax: &str, tensor: &Tensor) -> Tensor {
    match (flax.ends_with("/kernel"), tensor.dim()) {
        (true, 2) => tensor.transpose(0, 1).contiguous(),
        (true, 4) => tensor.permute([3, 2, 0, 1]).contiguous(),
        _ => tensor.shallow_clone(),
    }
}

fn to_flax_order(flax: &str, tensor: &Tensor) -> Tensor {
    match (flax.ends_with("/kernel"), tensor.dim()) {
        (true, 2) => tensor.transpose(0, 1).contiguous(),
        (true, 4) => tensor.permute([2, 3, 1, 0]).contiguous(),
        _ => tensor.shallow_clone(),
    }
}
