//! What a request is told that is not done.

use std::fmt::Display;

use axum::Json;
use axum::http::header::RETRY_AFTER;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use meanflow_torch::TorchError;
use meanflow_train::TrainError;
use serde_json::json;

/// A status, a word for programs and a sentence for people.
#[derive(Clone, Debug)]
pub(crate) struct ApiError {
    status: StatusCode,
    code: &'static str,
    message: String,
}

impl ApiError {
    pub(crate) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            code,
            message: message.into(),
        }
    }

    /// A value that cannot be.
    pub(crate) fn bad(key: &str, expected: impl Display, got: impl Display) -> Self {
        let message = format!("{key}: expected {expected}, got {got}");
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", message)
    }

    /// An id that nothing has.
    pub(crate) fn unknown(what: &str, id: &str) -> Self {
        let message = format!("{what}: nothing is called {id:?} here");
        Self::new(StatusCode::NOT_FOUND, "unknown", message)
    }

    /// More is asked at once than can be done.
    pub(crate) fn busy(message: &str) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "busy", message)
    }

    /// The models do not answer any more.
    pub(crate) fn unwell() -> Self {
        let message = "the thread with the models failed; its log says why";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unwell", message)
    }

    /// Something that no request should be able to cause.
    pub(crate) fn internal(problem: impl Display) -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            problem.to_string(),
        )
    }
}

impl From<TorchError> for ApiError {
    fn from(error: TorchError) -> Self {
        Self::internal(error)
    }
}

impl From<TrainError> for ApiError {
    fn from(error: TrainError) -> Self {
        Self::internal(error)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let body = json!({"error": {"code": self.code, "message": self.message}});
        let mut response = (self.status, Json(body)).into_response();
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            let headers = response.headers_mut();
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}
