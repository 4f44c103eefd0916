//! Who may ask: pages of this server and programs, not pages of others.
//!
//! A browser lets any page send requests to this machine, and a name that is made to mean this machine lets it read the answers.
//! So a request must name a host that this server is known by, and a page it comes from must be its own. A request for samples must
//! be JSON, which a page of another origin cannot send without being asked about first.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONTENT_SECURITY_POLICY, HOST, HeaderName, ORIGIN,
    REFERRER_POLICY, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::ServeError;
use crate::api_error::ApiError;

/// Least characters of a token.
const LEAST: usize = 16;

/// What a request is held against.
#[derive(Debug)]
pub(crate) struct Guard {
    address: SocketAddr,
    token: Option<String>,
}

impl Guard {
    /// The guard of a server that listens on `address`.
    pub(crate) fn new(address: SocketAddr, token: Option<&str>) -> Result<Self, ServeError> {
        let token = token.map(str::trim).map(str::to_owned);
        if let Some(token) = &token
            && (token.len() < LEAST || !token.bytes().all(|byte| byte.is_ascii_graphic()))
        {
            let got = format!("{} bytes", token.len());
            return Err(ServeError::Token { least: LEAST, got });
        }
        if token.is_none() && !address.ip().is_loopback() {
            return Err(ServeError::Open(address));
        }
        Ok(Self { address, token })
    }

    /// Whether a host is one that this server is known by. With a token any is: a page that pretends to be of this server does not have
    /// the token, which no browser sends by itself.
    fn knows(&self, host: &str) -> bool {
        if self.token.is_some() {
            return true;
        }
        let (name, port) = match host.rsplit_once(':') {
            Some((name, port)) if !port.ends_with(']') => (name, port.parse().ok()),
            _ => (host, Some(80)),
        };
        let name = name.trim_start_matches('[').trim_end_matches(']');
        let is_here = match name.parse::<IpAddr>() {
            Ok(address) => address == self.address.ip() || address.is_loopback(),
            Err(_) => name.eq_ignore_ascii_case("localhost"),
        };
        is_here && port == Some(self.address.port())
    }
}

/// Refuses what does not name this server, and pages of others; says to the browser what the page may do.
pub(super) async fn is_here(
    State(guard): State<Arc<Guard>>,
    request: Request,
    next: Next,
) -> Response {
    let mut response = match foreign(&guard, request.headers()) {
        Some(error) => error.into_response(),
        None => next.run(request).await,
    };
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if !headers.contains_key(CACHE_CONTROL) {
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    response
}

fn foreign(guard: &Guard, headers: &HeaderMap) -> Option<ApiError> {
    let text = |value: &HeaderValue| value.to_str().unwrap_or_default().to_owned();
    let mut hosts = headers.get_all(HOST).iter().map(text);
    let host = hosts.next().unwrap_or_default();
    if hosts.next().is_some() || !guard.knows(&host) {
        let message = format!("this server is not known as {host:?}");
        return Some(ApiError::new(
            StatusCode::MISDIRECTED_REQUEST,
            "host",
            message,
        ));
    }
    let origin = text(headers.get(ORIGIN)?);
    let of_page = origin
        .strip_prefix("http://")
        .or_else(|| origin.strip_prefix("https://"));
    if of_page.is_some_and(|of_page| of_page.eq_ignore_ascii_case(&host)) {
        return None;
    }
    let message = format!("pages of {origin:?} may not use this server");
    Some(ApiError::new(StatusCode::FORBIDDEN, "origin", message))
}

/// Refuses requests without the token, where there is one.
pub(super) async fn may_use(
    State(guard): State<Arc<Guard>>,
    request: Request,
    next: Next,
) -> Response {
    let Some(token) = &guard.token else {
        return next.run(request).await;
    };
    let sent = request.headers().get(AUTHORIZATION);
    let sent = sent.and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    if sent.is_some_and(|sent| is_same(sent.as_bytes(), token.as_bytes())) {
        return next.run(request).await;
    }
    let message = "expected the token of this server as \"Authorization: Bearer TOKEN\"";
    let mut response = ApiError::new(StatusCode::UNAUTHORIZED, "token", message).into_response();
    let headers = response.headers_mut();
    headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    response
}

/// Whether both are the same, in a time that does not say how much of them is.
fn is_same(one: &[u8], other: &[u8]) -> bool {
    let pairs = one.iter().zip(other);
    let differing = pairs.fold(0, |all, (one, other)| all | (one ^ other));
    one.len() == other.len() && differing == 0
}

/// The page loads nothing from elsewhere, is in no frame, and runs no script but its own.
const HEADERS: [(HeaderName, &str); 4] = [
    (
        CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (REFERRER_POLICY, "no-referrer"),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        "same-origin",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn guard(address: &str, token: Option<&str>) -> Result<Guard, ServeError> {
        Guard::new(address.parse().unwrap(), token)
    }

    #[test]
    fn only_names_of_this_server_are_known() {
        let guard = guard("127.0.0.1:8080", None).unwrap();
        for host in [
            "127.0.0.1:8080",
            "localhost:8080",
            "LOCALHOST:8080",
            "[::1]:8080",
        ] {
            assert!(guard.knows(host), "{host}");
        }
        for host in [
            "",
            "localhost",
            "localhost:80",
            "evil.example:8080",
            "127.0.0.1.evil.example:8080",
            "localhost:8080.evil.example",
            "10.0.0.1:8080",
            "localhost:",
            "localhost.evil:8080",
            "[::1]",
        ] {
            assert!(!guard.knows(host), "{host}");
        }
    }

    #[test]
    fn other_machines_need_a_token() {
        assert!(matches!(
            guard("0.0.0.0:8080", None),
            Err(ServeError::Open(_))
        ));
        assert!(matches!(
            guard("127.0.0.1:1", Some("short")),
            Err(ServeError::Token { .. })
        ));
        let with_space = "0123456789 abcdefgh";
        assert!(guard("127.0.0.1:1", Some(with_space)).is_err());
        assert!(guard("0.0.0.0:8080", Some("0123456789abcdef\n")).is_ok());
    }

    #[test]
    fn tokens_are_the_same_or_not() {
        assert!(is_same(b"abc", b"abc"));
        for (one, other) in [("abc", "abd"), ("abc", "ab"), ("", "a")] {
            assert!(!is_same(one.as_bytes(), other.as_bytes()));
        }
    }
}
