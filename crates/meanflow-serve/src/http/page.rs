//! The page, which is in the program: nothing of it comes from elsewhere.

use axum::Router;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

/// The files of the page: their routes, types and contents.
const FILES: [(&str, &str, &str); 8] = [
    ("/", HTML, include_str!("../../page/index.html")),
    ("/style.css", CSS, include_str!("../../page/style.css")),
    ("/main.js", SCRIPT, include_str!("../../page/main.js")),
    ("/server.js", SCRIPT, include_str!("../../page/server.js")),
    ("/studio.js", SCRIPT, include_str!("../../page/studio.js")),
    (
        "/dashboard.js",
        SCRIPT,
        include_str!("../../page/dashboard.js"),
    ),
    ("/charts.js", SCRIPT, include_str!("../../page/charts.js")),
    (
        "/openapi.json",
        JSON,
        include_str!("../../page/openapi.json"),
    ),
];

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const JSON: &str = "application/json";

pub(super) fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    FILES
        .into_iter()
        .fold(Router::new(), |router, (route, kind, text)| {
            router.route(route, get(async move || file(kind, text)))
        })
}

fn file(kind: &'static str, text: &'static str) -> Response {
    // A server of another version may answer here tomorrow.
    ([(CONTENT_TYPE, kind), (CACHE_CONTROL, "no-cache")], text).into_response()
}
