//! A JSON body, whose problems are told as everything else is.

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{FromRequest, Request};
use serde::de::DeserializeOwned;

use crate::api_error::ApiError;

/// The body of a request, sent as `application/json`.
pub(super) struct Asked<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Asked<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let body = Json::<T>::from_request(request, state).await;
        let refused = |rejection: JsonRejection| {
            ApiError::new(rejection.status(), "body", rejection.body_text())
        };
        body.map(|Json(asked)| Self(asked)).map_err(refused)
    }
}
