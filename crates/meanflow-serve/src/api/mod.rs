//! The JSON API: what a request may ask, and what it gets.

mod asked;
mod drawn;
mod error;
mod requests;
mod runs;

pub(crate) use error::ApiError;

use std::sync::Arc;

use axum::Json;
use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::routing::{get, post};

use crate::catalogue::Catalogue;
use crate::limits::Limits;
use crate::studio::Studio;
use crate::telemetry::Telemetry;
use crate::training_data::TrainingData;

/// What every handler knows.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) catalogue: Catalogue,
    pub(crate) studio: Studio,
    pub(crate) telemetry: Arc<Telemetry>,
    pub(crate) limits: Limits,
    pub(crate) data: TrainingData,
}

/// The routes below `/api`.
pub(crate) fn routes(limits: &Limits) -> Router<Arc<App>> {
    // A request with a picture is as much longer.
    let with_picture = DefaultBodyLimit::max(limits.body + limits.picture);
    Router::new()
        .route("/api/vary", post(requests::vary).layer(with_picture))
        .route("/api/inpaint", post(requests::inpaint).layer(with_picture))
        .route("/api/catalogue", get(catalogue))
        .route("/api/sample", post(requests::sample))
        .route("/api/interpolate", post(requests::interpolate))
        .route("/api/trajectory", post(requests::trajectory))
        .route("/api/nearest", post(requests::nearest))
        .route("/api/runs/{run}", get(runs::about))
        .route("/api/runs/{run}/metrics", get(runs::metrics))
        .route("/api/runs/{run}/samples/{step}", get(runs::samples))
        .route("/api/runs/{run}/data", get(runs::data))
}

async fn catalogue(State(app): State<Arc<App>>) -> Json<Catalogue> {
    Json(app.catalogue.clone())
}
