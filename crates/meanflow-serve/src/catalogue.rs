//! Which models and runs a server has.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use meanflow_data::latents::Facts;
use meanflow_torch::{Model, ModelConfig};
use meanflow_train::config::DataConfig;
use meanflow_train::latents::LatentDecoder;
use meanflow_train::{LATENTS_KEY, RunFiles, Samples, class_names_of, recipe_of, weights_of};
use serde::Serialize;

use crate::studio::Served;
use crate::{Options, ServeError};

/// What a server has, as `GET /api/catalogue` lists it.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Catalogue {
    /// The models, in the order in which they were given.
    pub models: Vec<ModelEntry>,
    /// The runs, likewise; the model of a run has its id.
    pub runs: Vec<RunEntry>,
}

/// A model.
#[derive(Clone, Debug, Serialize)]
pub struct ModelEntry {
    /// What a request calls it.
    pub id: String,
    /// What its samples are.
    pub samples: SampleKind,
    /// Shape of a sample, as the network makes it.
    pub shape: Vec<i64>,
    /// `[channels, height, width]` of the pictures that are made of samples; none of points.
    pub picture: Option<[usize; 3]>,
    /// Number of classes; 0 for an unconditional model.
    pub classes: i64,
    /// The names of the classes, where they have any.
    pub class_names: Option<Vec<String>>,
    /// Number of parameters.
    pub parameters: usize,
    /// Whether the data that it was trained on can be looked at.
    pub has_data: bool,
    /// What it is, apart from its weights.
    pub config: ModelConfig,
    /// Rows of one evaluation, which requests share.
    pub rows: usize,
    /// The data it was trained on and the seed of its run, where the recipe says them and they are there.
    #[serde(skip)]
    pub(crate) data: Option<(DataConfig, u64)>,
}

/// What the samples of a model are.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SampleKind {
    /// Grey or coloured pictures.
    Pictures,
    /// Latents of which a VAE makes pictures.
    Latents,
    /// Anything else: points of the plane, or latents without their VAE.
    Points,
}

/// A run.
#[derive(Clone, Debug, Serialize)]
pub struct RunEntry {
    /// What a request calls it.
    pub id: String,
    /// Whether it has weights that samples can be drawn from.
    pub has_model: bool,
    #[serde(skip)]
    pub(crate) path: PathBuf,
}

/// The catalogue of what is given: weights files, run directories, and folders of run directories; with the models.
pub(crate) fn open(
    paths: &[PathBuf],
    options: &Options,
) -> Result<(Catalogue, Vec<Served>), ServeError> {
    let (mut catalogue, mut models) = (Catalogue::default(), Vec::new());
    let mut ids = BTreeSet::new();
    for path in paths
        .iter()
        .map(|path| found(path))
        .collect::<Result<Vec<_>, _>>()?
        .concat()
    {
        let id = fresh_id(&path, &mut ids);
        let weights = weights_of(&path);
        let has_model = weights.is_file();
        if has_model {
            let (entry, served) = model(id.clone(), &weights, options)?;
            catalogue.models.push(entry);
            models.push(served);
        }
        if path.is_dir() {
            catalogue.runs.push(RunEntry {
                id,
                has_model,
                path,
            });
        }
    }
    Ok((catalogue, models))
}

/// What a path stands for: a weights file, a run directory, or the run directories in a folder.
fn found(path: &Path) -> Result<Vec<PathBuf>, ServeError> {
    if path.is_file() || RunFiles::new(path).are_there()? || weights_of(path).is_file() {
        return Ok(vec![path.to_owned()]);
    }
    let mut runs = Vec::new();
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        let inner = entry.path();
        if inner.is_dir() && RunFiles::new(&inner).are_there()? {
            runs.push(inner);
        }
    }
    runs.sort();
    if runs.is_empty() {
        let got = if path.is_dir() {
            "a folder without any"
        } else {
            "nothing"
        };
        return Err(ServeError::Nothing {
            path: path.to_owned(),
            got: got.to_owned(),
        });
    }
    Ok(runs)
}

/// The last part of a path that says something, made unlike all others.
fn fresh_id(path: &Path, ids: &mut BTreeSet<String>) -> String {
    let whole = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let is_run_weights = whole
        .file_name()
        .is_some_and(|name| name == "model.safetensors");
    let named = if is_run_weights { whole.parent() } else { None }.unwrap_or(&whole);
    let stem = if named.is_dir() {
        named.file_name()
    } else {
        named.file_stem()
    };
    let stem = stem.unwrap_or_default().to_string_lossy().into_owned();
    let mut id = stem.clone();
    let mut number = 2;
    while !ids.insert(id.clone()) {
        id = format!("{stem}-{number}");
        number += 1;
    }
    id
}

fn model(
    id: String,
    weights: &Path,
    options: &Options,
) -> Result<(ModelEntry, Served), ServeError> {
    let (model, metadata) = Model::load_with(weights, options.device, options.verify)?;
    let config = model.config().clone();
    let decoder = match (&options.vae, metadata.get(LATENTS_KEY)) {
        (Some(vae), Some(facts)) => {
            let facts: Option<Facts> = serde_json::from_str(facts).ok();
            Some(LatentDecoder::open(
                vae,
                options.device,
                &config.shape,
                facts.as_ref(),
            )?)
        }
        _ => None,
    };
    let is_latent = metadata.contains_key(LATENTS_KEY);
    let picture = picture(&config.shape, is_latent, decoder.as_ref());
    let samples = match (picture, &decoder) {
        (Some(_), Some(_)) => SampleKind::Latents,
        (Some(_), None) => SampleKind::Pictures,
        (None, _) => SampleKind::Points,
    };
    let recipe = recipe_of(weights, &metadata).ok().flatten();
    let data = recipe.map(|recipe| (recipe.data.plain(), recipe.seed));
    // Latents are no pictures that could be shown beside samples.
    let data = data.filter(|(data, _)| !is_latent && data.path().is_none_or(Path::exists));
    let entry = ModelEntry {
        id,
        samples,
        shape: config.shape.clone(),
        picture,
        classes: config.classes,
        class_names: class_names_of(&metadata),
        parameters: model.parameters().count(),
        has_data: data.is_some(),
        rows: Samples::rows_an_evaluation(&model),
        config,
        data,
    };
    Ok((entry, Served { model, decoder }))
}

/// `[channels, height, width]` of the pictures that samples of this shape are or become; none of anything else.
fn picture(shape: &[i64], is_latent: bool, decoder: Option<&LatentDecoder>) -> Option<[usize; 3]> {
    match (decoder, shape) {
        (Some(decoder), _) => Some(decoder.picture_shape(shape)),
        (None, &[channels @ (1 | 3), height, width]) if !is_latent => {
            Some([channels as usize, height as usize, width as usize])
        }
        _ => None,
    }
}
