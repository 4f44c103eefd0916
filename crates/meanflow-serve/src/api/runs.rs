//! Run directories, to look at while and after a process trains in them.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use axum::Json;
use axum::extract::{Path as InPath, Query, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use meanflow_train::metrics::Record;
use meanflow_train::{RunFiles, TrainConfig};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::task::spawn_blocking;

use super::app::App;
use crate::api_error::ApiError;

/// Bytes of metrics that are read for one request; the next one gets those that follow.
const CHUNK: u64 = 1 << 20;
/// Longest text, picture or report that is read.
const MOST_BYTES: u64 = 64 << 20;

/// What there is of a run.
#[derive(Debug, Serialize)]
pub(super) struct About {
    id: String,
    /// Steps that the recipe wants.
    steps: Option<u64>,
    /// The recipe as it was written, and as it was resolved.
    recipe: Option<String>,
    resolved: Option<String>,
    /// Every start, as `run.json` has it.
    starts: Option<Value>,
    /// What `meanflow eval` found, as `report.json` has it.
    report: Option<Value>,
    /// Steps of which there are pictures of samples.
    samples: Vec<u64>,
    /// Whether there is a picture of the data.
    has_data: bool,
    /// Seconds since a step was logged last.
    quiet_seconds: Option<u64>,
}

pub(super) async fn about(
    State(app): State<Arc<App>>,
    InPath(id): InPath<String>,
) -> Result<Json<About>, ApiError> {
    let files = app.run(&id)?;
    let about = blocking(move || {
        let text = |path: &Path| -> Option<String> { String::from_utf8(bytes(path).ok()??).ok() };
        let json = |path: &Path| serde_json::from_str::<Value>(&text(path)?).ok();
        let config = TrainConfig::read(&files.config(), &[]).ok();
        let logged = fs::metadata(files.metrics()).and_then(|metadata| metadata.modified());
        let quiet = logged
            .ok()
            .and_then(|time| SystemTime::now().duration_since(time).ok());
        Ok(About {
            id,
            steps: config.map(|config| config.training.steps.get()),
            recipe: text(&files.recipe()),
            resolved: text(&files.config()),
            starts: json(&files.starts())
                .and_then(|mut record| Some(record.get_mut("starts")?.take())),
            report: json(&files.report()),
            samples: files.sampled_steps()?,
            has_data: files.data_picture().is_file(),
            quiet_seconds: quiet.map(|quiet| quiet.as_secs()),
        })
    });
    Ok(Json(about.await?))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct From {
    #[serde(default)]
    from: u64,
}

/// Records of a run from a place of its metrics file on.
#[derive(Debug, Serialize)]
pub(super) struct Records {
    records: Vec<Record>,
    /// Where the next request begins.
    next: u64,
    /// Bytes of the file. More than `next`: there is more to ask for.
    bytes: u64,
}

pub(super) async fn metrics(
    State(app): State<Arc<App>>,
    InPath(id): InPath<String>,
    Query(From { from }): Query<From>,
) -> Result<Json<Records>, ApiError> {
    let path = app.run(&id)?.metrics();
    Ok(Json(blocking(move || records(&path, from)).await?))
}

/// The whole lines of a chunk that are records. A file that has become shorter is read from its start.
fn records(path: &Path, from: u64) -> Result<Records, ApiError> {
    let io = |error| unreadable(path, &error);
    let mut file = match File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Ok(Records {
                records: Vec::new(),
                next: 0,
                bytes: 0,
            });
        }
        opened => opened.map_err(io)?,
    };
    let bytes = file.metadata().map_err(io)?.len();
    let from = if from > bytes { 0 } else { from };
    file.seek(SeekFrom::Start(from)).map_err(io)?;
    let mut chunk = Vec::new();
    file.take(CHUNK).read_to_end(&mut chunk).map_err(io)?;
    let end = chunk
        .iter()
        .rposition(|byte| *byte == b'\n')
        .map_or(0, |place| place + 1);
    let lines = chunk[..end].split(|byte| *byte == b'\n');
    let records = lines.filter_map(|line| serde_json::from_slice(line).ok());
    // A chunk without the end of a line is no line of a record: it is passed over.
    let passed = if end == 0 && chunk.len() as u64 == CHUNK {
        CHUNK
    } else {
        end as u64
    };
    Ok(Records {
        records: records.collect(),
        next: from + passed,
        bytes,
    })
}

pub(super) async fn samples(
    State(app): State<Arc<App>>,
    InPath((id, step)): InPath<(String, u64)>,
) -> Result<Response, ApiError> {
    let path = app.run(&id)?.samples(step);
    png(path, || {
        ApiError::unknown("samples after step", &step.to_string())
    })
    .await
}

pub(super) async fn data(
    State(app): State<Arc<App>>,
    InPath(id): InPath<String>,
) -> Result<Response, ApiError> {
    let path = app.run(&id)?.data_picture();
    png(path, || ApiError::unknown("a picture of the data of", &id)).await
}

async fn png(
    path: std::path::PathBuf,
    absent: impl FnOnce() -> ApiError,
) -> Result<Response, ApiError> {
    let file = blocking(move || bytes(&path)).await?.ok_or_else(absent)?;
    Ok(([(CONTENT_TYPE, "image/png")], file).into_response())
}

/// The bytes of a file; none where there is no file.
fn bytes(path: &Path) -> Result<Option<Vec<u8>>, ApiError> {
    let mut bytes = Vec::new();
    let file = match meanflow_data::open_regular(path) {
        Ok((file, _)) => file,
        Err(_) if !path.exists() => return Ok(None),
        Err(error) => return Err(ApiError::internal(error)),
    };
    let read = file.take(MOST_BYTES).read_to_end(&mut bytes);
    read.map_err(|error| unreadable(path, &error))?;
    Ok(Some(bytes))
}

fn unreadable(path: &Path, error: &io::Error) -> ApiError {
    ApiError::internal(format_args!("could not read {}: {error}", path.display()))
}

/// Work that waits for the disk, away from the threads that answer.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    spawn_blocking(work).await.map_err(ApiError::internal)?
}

impl App {
    fn run(&self, id: &str) -> Result<RunFiles, ApiError> {
        let mut runs = self.catalogue.runs.iter();
        let run = runs.find(|run| run.id == id);
        let run = run.ok_or_else(|| ApiError::unknown("run", id))?;
        Ok(RunFiles::new(&run.path))
    }
}
