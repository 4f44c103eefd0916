//! Reference statistics in NumPy archives, under the names that the field's evaluators give them.

use std::fmt;
use std::path::Path;

use meanflow_data::npy::{NpyArray, NpyData, NpySlice, NpyView};
use meanflow_data::npz::{self, Compression, Npz};
use tch::{Kind, Tensor};

use crate::{EvalError, Statistics};

/// A covariance of more bytes is not read: 16384 features in f64.
const MAX_BYTES: u64 = 2 << 30;

/// Under which names a file holds its statistics.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Spelling {
    /// `mu`, `sigma`, `mu_s`, `sigma_s`: ADM's evaluator; the last two are spatial.
    Adm,
    /// `mu`, `sigma`: EDM, pytorch-fid.
    Edm,
    /// `ref_mu`, `ref_sigma`: the JAX code of MeanFlow.
    Jax,
}

impl fmt::Display for Spelling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Adm => "ADM (mu, sigma, mu_s, sigma_s)",
            Self::Edm => "EDM (mu, sigma)",
            Self::Jax => "JAX (ref_mu, ref_sigma)",
        })
    }
}

/// Statistics of a reference data set, and how the file spelt them.
#[derive(Debug)]
pub struct Reference {
    /// The names that matched.
    pub spelling: Spelling,
    /// Of the pooled features.
    pub pooled: Statistics,
    /// Of the spatial features, in the ADM spelling.
    pub spatial: Option<Statistics>,
}

impl Reference {
    /// Reads an `.npz` file. Other arrays in it, such as ADM's pictures, are left alone.
    ///
    /// # Errors
    /// [`EvalError::File`] when no spelling matches, or two do; [`EvalError::Data`] for a broken archive, or for
    /// arrays of objects, which are pickles and never read; as [`Statistics::new`], the file being named.
    pub fn read(path: &Path) -> Result<Self, EvalError> {
        let mut file = Npz::open(path, MAX_BYTES)?;
        let spelling = spelling(path, file.names())?;
        let (mu, sigma) = match spelling {
            Spelling::Jax => ("ref_mu", "ref_sigma"),
            Spelling::Adm | Spelling::Edm => ("mu", "sigma"),
        };
        let spatial = match spelling {
            Spelling::Adm => Some(statistics(path, &mut file, "mu_s", "sigma_s")?),
            Spelling::Edm | Spelling::Jax => None,
        };
        Ok(Self {
            spelling,
            pooled: statistics(path, &mut file, mu, sigma)?,
            spatial,
        })
    }
}

/// Writes statistics in the ADM spelling, or in EDM's if there are no spatial ones, whole or not at all.
///
/// # Errors
/// [`EvalError::Data`] if the file system refuses.
pub fn write(
    path: &Path,
    pooled: &Statistics,
    spatial: Option<&Statistics>,
) -> Result<(), EvalError> {
    let named = [("mu", "sigma", Some(pooled)), ("mu_s", "sigma_s", spatial)];
    let mut arrays = Vec::new();
    for (mu, sigma, statistics) in named {
        let Some(statistics) = statistics else {
            continue;
        };
        arrays.push((mu, array(statistics.mean())));
        arrays.push((sigma, array(&statistics.covariance())));
    }
    let views: Vec<(&str, NpyView<'_>)> = arrays
        .iter()
        .map(|(name, (shape, data))| {
            let data = NpySlice::F64(data);
            (*name, NpyView { shape, data })
        })
        .collect();
    Ok(npz::write(path, &views, Compression::Store)?)
}

/// The only spelling of which all names are there.
fn spelling(path: &Path, names: &[String]) -> Result<Spelling, EvalError> {
    let has = |wanted: &[&str]| wanted.iter().all(|name| names.iter().any(|n| n == name));
    let plain = has(&["mu", "sigma"]);
    match (
        plain,
        has(&["mu_s", "sigma_s"]),
        has(&["ref_mu", "ref_sigma"]),
    ) {
        (true, true, false) => Ok(Spelling::Adm),
        (true, false, false) => Ok(Spelling::Edm),
        (false, _, true) => Ok(Spelling::Jax),
        (both, ..) => Err(EvalError::File {
            path: path.to_owned(),
            problem: format!(
                "expected {} arrays mu and sigma, or ref_mu and ref_sigma, got {}",
                if both { "either" } else { "the" },
                names.join(", ")
            ),
        }),
    }
}

fn statistics(path: &Path, file: &mut Npz, mu: &str, sigma: &str) -> Result<Statistics, EvalError> {
    let mut read = |name: &str| tensor(path, name, &file.read(name)?);
    let (mean, covariance) = (read(mu)?, read(sigma)?);
    Statistics::new(&mean, &covariance).map_err(|error| EvalError::File {
        path: path.to_owned(),
        problem: format!("{mu}, {sigma}: {error}"),
    })
}

fn tensor(path: &Path, name: &str, array: &NpyArray) -> Result<Tensor, EvalError> {
    let flat = match &array.data {
        NpyData::F64(data) => Tensor::from_slice(data),
        NpyData::F32(data) => Tensor::from_slice(data).to_kind(Kind::Double),
        NpyData::F16(_) | NpyData::I64(_) | NpyData::U8(_) => {
            return Err(EvalError::File {
                path: path.to_owned(),
                problem: format!("{name}: expected numbers in f32 or f64"),
            });
        }
    };
    let shape: Vec<i64> = array.shape.iter().map(|side| *side as i64).collect();
    Ok(flat.reshape(shape))
}

/// Shape and elements of a tensor of statistics.
fn array(tensor: &Tensor) -> (Vec<usize>, Vec<f64>) {
    let shape = tensor.size().iter().map(|side| *side as usize).collect();
    let mut data = vec![0.0; tensor.numel()];
    tensor.contiguous().copy_data(&mut data, tensor.numel());
    (shape, data)
}
