//! From connections to requests: the page, limits, and who may ask.

mod guard;
mod listen;
mod page;

pub(crate) use guard::Guard;
pub(crate) use listen::accept;

use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::extract::{DefaultBodyLimit, MatchedPath, Request, State};
use axum::http::StatusCode;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::sync::Semaphore;

use crate::api::{App, routes};
use crate::api_error::ApiError;

/// All routes, with what every request goes through: its time is measured and limited, who asks is looked at, and no more
/// requests are worked on than the limit says.
pub(crate) fn router(app: &Arc<App>, guard: Guard) -> Router {
    let limited = Limited {
        app: Arc::clone(app),
        places: Arc::new(Semaphore::new(app.limits.requests)),
    };
    let guard = Arc::new(guard);
    let api = routes(&app.limits)
        .layer(DefaultBodyLimit::max(app.limits.body))
        .layer(from_fn_with_state(Arc::clone(&guard), guard::may_use))
        .layer(from_fn_with_state(limited, within_limits));
    let page = page::routes::<Arc<App>>()
        .route("/healthz", get(health))
        .route("/metrics", get(metrics));
    api.merge(page)
        .fallback(nothing)
        .layer(from_fn_with_state(guard, guard::is_here))
        .layer(from_fn_with_state(Arc::clone(app), counted))
        .with_state(Arc::clone(app))
}

#[derive(Clone)]
struct Limited {
    app: Arc<App>,
    places: Arc<Semaphore>,
}

async fn within_limits(State(limited): State<Limited>, request: Request, next: Next) -> Response {
    let Ok(_place) = limited.places.try_acquire() else {
        return ApiError::busy("too many requests at once").into_response();
    };
    let limits = &limited.app.limits;
    let (head, bytes) = (request.headers(), limits.header_bytes);
    let size: usize = head
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len())
        .sum();
    if size > bytes {
        let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
        let message = format!("headers: expected at most {bytes} bytes, got {size}");
        return ApiError::new(status, "headers", message).into_response();
    }
    let length = head.get(CONTENT_LENGTH);
    let length = length.and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    let most = (limits.body + limits.picture) as u64;
    if let Some(length) = length.filter(|length| *length > most) {
        // Before any of it is waited for; routes without a picture take less.
        let message = format!("body: expected at most {most} bytes, got {length}");
        return ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "body", message).into_response();
    }
    match tokio::time::timeout(limits.request_time, next.run(request)).await {
        Ok(response) => response,
        Err(_) => {
            let message = format!("no answer within {} s", limits.request_time.as_secs());
            ApiError::new(StatusCode::REQUEST_TIMEOUT, "timeout", message).into_response()
        }
    }
}

async fn counted(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let start = Instant::now();
    let route = label(&request);
    let response = next.run(request).await;
    app.telemetry
        .answered(route, response.status().as_u16(), start.elapsed());
    response
}

/// The route of a request as a label of counters, of which there must not be one for every path that somebody thinks of.
fn label(request: &Request) -> &'static str {
    let path = request.extensions().get::<MatchedPath>();
    let path = path.map_or("", MatchedPath::as_str);
    LABELS
        .into_iter()
        .find(|label| *label == path)
        .unwrap_or("other")
}

/// The routes that are counted one by one.
const LABELS: [&str; 12] = [
    "/",
    "/healthz",
    "/metrics",
    "/api/catalogue",
    "/api/sample",
    "/api/interpolate",
    "/api/trajectory",
    "/api/vary",
    "/api/inpaint",
    "/api/nearest",
    "/api/runs/{run}",
    "/api/runs/{run}/metrics",
];

async fn health(State(app): State<Arc<App>>) -> Response {
    if app.studio.is_well() {
        return "ok\n".into_response();
    }
    ApiError::unwell().into_response()
}

async fn metrics(State(app): State<Arc<App>>) -> Response {
    let text = app.telemetry.to_string();
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(CONTENT_TYPE, kind)], text).into_response()
}

async fn nothing() -> ApiError {
    ApiError::new(
        StatusCode::NOT_FOUND,
        "unknown",
        "there is nothing at this address",
    )
}
