//! The JSON API: what a request may ask, and what it gets.

mod app;
mod asked;
mod drawn;
mod requests;
mod runs;

pub(crate) use app::App;

use std::sync::Arc;

use axum::Json;
use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::routing::{get, post};

use crate::catalogue::Catalogue;
use crate::limits::Limits;

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
