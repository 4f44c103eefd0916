//! Samples as they are answered.

use axum::Json;
use meanflow_data::Picture;
use serde::Serialize;
use serde_json::{Map, Value};
use tokio::task::spawn_blocking;

use crate::api_error::ApiError;
use crate::catalogue::ModelEntry;
use crate::picture;
use crate::studio::Done;

/// Samples, with what they took.
#[derive(Debug, Serialize)]
pub(super) struct Drawn {
    model: String,
    /// Evaluations of the network for one sample.
    nfe: usize,
    /// The time of the evaluations, those of all samples that shared them.
    milliseconds: f64,
    /// How long the request waited for the models.
    waited_milliseconds: f64,
    /// How many samples shared the evaluations.
    shared_by: usize,
    /// How far the noise that was found for a given picture misses it.
    #[serde(skip_serializing_if = "Option::is_none")]
    residual: Option<f64>,
    samples: Vec<Map<String, Value>>,
}

/// What is said of one sample.
#[derive(Debug)]
pub(super) struct Label(Map<String, Value>);

impl Label {
    /// `facts` is an object.
    pub(super) fn new(model: &ModelEntry, class: Option<i64>, facts: Value) -> Self {
        let Value::Object(mut label) = facts else {
            return Self(Map::new());
        };
        if let Some(class) = class.filter(|class| *class < model.classes) {
            label.insert("class".to_owned(), class.into());
            let names = model.class_names.as_ref();
            let name = names.and_then(|names| names.get(usize::try_from(class).ok()?));
            if let Some(name) = name {
                label.insert("class_name".to_owned(), name.clone().into());
            }
        }
        Self(label)
    }
}

impl Drawn {
    /// The answer: pictures as PNG files in base64, which carry their settings, and anything else as its values.
    pub(super) async fn new(
        model: &ModelEntry,
        done: Done,
        settings: &Value,
        labels: Vec<Label>,
    ) -> Result<Json<Self>, ApiError> {
        let head = Self {
            model: model.id.clone(),
            nfe: done.nfe,
            milliseconds: 1e3 * done.seconds,
            waited_milliseconds: 1e3 * done.waited,
            shared_by: done.shared_by,
            residual: done.residual,
            samples: Vec::new(),
        };
        let pictures = match (&done.decoded, model.picture) {
            (Some(decoded), _) => Some(decoded.clone()),
            (None, Some(_)) => {
                let pictures = done.samples.pictures().map_err(ApiError::internal)?;
                Some(pictures.iter().collect())
            }
            (None, None) => None,
        };
        let mut settings = settings.clone();
        settings["model"] = model.id.clone().into();
        let samples = match pictures {
            Some(pictures) => {
                let made = spawn_blocking(move || encoded(&pictures, labels, &settings));
                made.await.map_err(ApiError::internal)??
            }
            None => values(&done, labels),
        };
        Ok(Json(Self { samples, ..head }))
    }
}

fn encoded(
    pictures: &[Picture],
    labels: Vec<Label>,
    settings: &Value,
) -> Result<Vec<Map<String, Value>>, ApiError> {
    let one = |(picture, Label(mut label)): (&Picture, Label)| {
        let mut all = label.clone();
        all.extend(settings.as_object().cloned().unwrap_or_default());
        let file = picture::encode(picture, &Value::Object(all)).map_err(ApiError::internal)?;
        label.insert("png".to_owned(), file.into());
        Ok(label)
    };
    pictures.iter().zip(labels).map(one).collect()
}

fn values(done: &Done, labels: Vec<Label>) -> Vec<Map<String, Value>> {
    let size = done.samples.shape.iter().product::<usize>().max(1);
    let values = done.samples.values.chunks(size);
    let one = |(values, Label(mut label)): (&[f32], Label)| {
        label.insert("values".to_owned(), values.into());
        label
    };
    values.zip(labels).map(one).collect()
}
