//! HTTP: an address, one answer, and a file out of it.

use std::fmt;
use std::io::{Read, Write};
use std::path::Path;
use std::time::Duration;

use meanflow_files::{Durability, Sha256, replace};
use ureq::http::Response;
use ureq::{Agent, Body};

use crate::{HubError, cache};

/// How often an answer may name another address.
const MOST_REDIRECTS: usize = 5;
/// To connect, and to begin an answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// For a whole file.
const PATIENCE_BODY: Duration = Duration::from_secs(12 * 3600);

/// An address of HTTPS, or of HTTP on this machine.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Address(String);

impl Address {
    /// The beginning of all addresses of a hub.
    pub(crate) fn endpoint(text: &str) -> Result<Self, HubError> {
        let address = Self(text.trim_end_matches('/').to_owned());
        let refused = || HubError::Endpoint {
            endpoint: text.to_owned(),
        };
        address.is_safe().then_some(address).ok_or_else(refused)
    }

    pub(crate) fn join(&self, path: &str) -> Self {
        Self(format!("{}/{path}", self.0))
    }

    fn is_safe(&self) -> bool {
        // A name and password before the host would hide it.
        let origin = self.origin();
        let host = origin.strip_prefix("http://");
        let host = host.map(|host| host.split(':').next().unwrap_or(host));
        let is_here = host.is_some_and(|host| ["127.0.0.1", "localhost"].contains(&host));
        !origin.contains('@') && (is_here || self.is_encrypted())
    }

    fn is_encrypted(&self) -> bool {
        self.0.starts_with("https://")
    }

    /// Scheme, host and port.
    fn origin(&self) -> &str {
        let scheme = self.0.find("://").map_or(0, |at| at + 3);
        let end = self.0[scheme..]
            .find(['/', '?', '#'])
            .map_or(self.0.len(), |at| scheme + at);
        &self.0[..end]
    }

    /// The address that an answer of this one names; none that is less safe than this.
    fn redirected(&self, location: &str) -> Option<Self> {
        let origin = if location.starts_with('/') {
            self.origin()
        } else {
            ""
        };
        let to = Self(format!("{origin}{location}"));
        (to.is_safe() && (to.is_encrypted() || !self.is_encrypted())).then_some(to)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What stands behind a question mark is a signature, which is nobody's business.
        f.write_str(self.0.split('?').next().unwrap_or_default())
    }
}

/// What the first answer says of a file: that of the hub, not that of the store it leads to.
#[derive(Debug, Default)]
struct Expected {
    sha256: Option<String>,
    bytes: Option<u64>,
}

impl Expected {
    fn of(response: &Response<Body>) -> Self {
        // Of other than large files it is the name of a blob, which is no SHA-256.
        let is_sha256 =
            |tag: &&str| tag.len() == 64 && tag.bytes().all(|byte| byte.is_ascii_hexdigit());
        let tag = header(response, "x-linked-etag");
        let tag = tag.map(|tag| tag.trim_start_matches("W/").trim_matches('"'));
        Self {
            sha256: tag.filter(is_sha256).map(str::to_lowercase),
            bytes: header(response, "x-linked-size").and_then(|size| size.parse().ok()),
        }
    }
}

fn header<'a>(response: &'a Response<Body>, name: &str) -> Option<&'a str> {
    response.headers().get(name)?.to_str().ok()
}

/// What asks.
pub(crate) struct Client {
    agent: Agent,
    token: Option<String>,
}

impl Client {
    pub(crate) fn new(token: Option<String>) -> Self {
        let agent = Agent::config_builder()
            .timeout_connect(Some(PATIENCE))
            .timeout_recv_response(Some(PATIENCE))
            .timeout_recv_body(Some(PATIENCE_BODY))
            .max_redirects(0)
            .max_redirects_will_error(false)
            .http_status_as_error(false)
            .user_agent(concat!("meanflow/", env!("CARGO_PKG_VERSION")))
            .build();
        Self {
            agent: agent.into(),
            token,
        }
    }

    /// A text of at most so many bytes.
    pub(crate) fn text(&self, address: &Address, most: u64) -> Result<String, HubError> {
        let (mut response, _) = self.answer(address)?;
        let body = response.body_mut().with_config().limit(most);
        body.read_to_string()
            .map_err(|error| network(address, error))
    }

    /// Fetches a file of at most so many bytes into `to`: whole and as the hub says, or not at all.
    pub(crate) fn file(&self, address: &Address, to: &Path, most: u64) -> Result<(), HubError> {
        let (mut response, expected) = self.answer(address)?;
        let announced = expected.bytes.or_else(|| response.body().content_length());
        if announced.is_some_and(|bytes| bytes > most) {
            return Err(too_large(address, most, announced.unwrap_or(0)));
        }
        let mut body = response.body_mut().as_reader();
        let io = |source| cache::io(to, "write", source);
        replace(to, Durability::Synced, io, |file| {
            let (mut hash, mut total, mut buffer) = (Sha256::new(), 0, vec![0; 1 << 16]);
            loop {
                let read = body.read(&mut buffer);
                let count = read.map_err(|error| network(address, error))?;
                if count == 0 {
                    break;
                }
                total += count as u64;
                if total > most {
                    return Err(too_large(address, most, total));
                }
                hash.update(&buffer[..count]);
                file.write_all(&buffer[..count]).map_err(io)?;
            }
            let announced = announced.map(|bytes| bytes.to_string());
            compare(address, "bytes", announced, total.to_string())?;
            compare(address, "SHA-256", expected.sha256, hash.finish())
        })
    }

    /// The answer to an address, after those that name another one, and what the first of them says of the file.
    fn answer(&self, address: &Address) -> Result<(Response<Body>, Expected), HubError> {
        let (mut at, mut expected) = (address.clone(), None);
        for _ in 0..=MOST_REDIRECTS {
            let mut request = self.agent.get(&at.0);
            // A token is for the hub alone, not for the store that it leads to.
            let is_hub = at.origin() == address.origin();
            if let Some(token) = self.token.as_ref().filter(|_| is_hub) {
                request = request.header("authorization", format!("Bearer {token}"));
            }
            let response = request.call().map_err(|error| network(&at, error))?;
            let of_first = Expected::of(&response);
            let expected = expected.get_or_insert(of_first);
            let status = response.status();
            if !status.is_redirection() {
                if !status.is_success() {
                    return Err(refused(address, status.as_u16()));
                }
                return Ok((response, std::mem::take(expected)));
            }
            let location = header(&response, "location");
            let next = location.and_then(|location| at.redirected(location));
            at = next.ok_or_else(|| {
                let got = Address(location.unwrap_or("none").to_owned()).to_string();
                answer(&at, "a redirection to an address of HTTPS", got)
            })?;
        }
        let expected = format!("at most {MOST_REDIRECTS} redirections");
        Err(answer(address, expected, "more"))
    }
}

fn compare(
    address: &Address,
    what: &'static str,
    expected: Option<String>,
    got: String,
) -> Result<(), HubError> {
    match expected {
        Some(expected) if expected != got => Err(HubError::Damaged {
            address: address.to_string(),
            what,
            expected,
            got,
        }),
        _ => Ok(()),
    }
}

fn too_large(address: &Address, most: u64, got: u64) -> HubError {
    let expected = format!("a file of at most {most} bytes");
    answer(address, expected, format!("{got} or more"))
}

/// An answer that is none of a hub.
pub(crate) fn answer(
    address: &Address,
    expected: impl Into<String>,
    got: impl Into<String>,
) -> HubError {
    HubError::Answer {
        address: address.to_string(),
        expected: expected.into(),
        got: got.into(),
    }
}

fn network(address: &Address, error: impl fmt::Display) -> HubError {
    HubError::Network {
        address: address.to_string(),
        problem: error.to_string(),
    }
}

fn refused(address: &Address, status: u16) -> HubError {
    let reason = match status {
        401 | 403 => {
            "not shown to everybody, or not there: a token of yours in HF_TOKEN may open it"
        }
        404 => "no such repository, revision or file",
        429 => "too many requests: try again later",
        _ => "the hub refuses",
    };
    HubError::Refused {
        address: address.to_string(),
        status,
        reason,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_https_and_this_machine_are_asked() {
        let (local, hub) = ("http://127.0.0.1:80/x", "https://hub.example");
        for text in [hub, local, "http://localhost"] {
            assert!(Address::endpoint(text).is_ok(), "{text}");
        }
        for text in [
            "http://hub.example",
            "http://127.0.0.1.example",
            "http://localhost@example",
            "http://localhost:80@hub.example",
            "ftp://x",
            "file:///etc/passwd",
            "",
        ] {
            assert!(Address::endpoint(text).is_err(), "{text}");
        }
        let address = Address::endpoint("https://hub.example/").unwrap();
        let address = address.join("a/b");
        assert_eq!(address.origin(), hub);
        let to = |location| address.redirected(location).map(|to| to.0);
        assert_eq!(to("/c?d").unwrap(), "https://hub.example/c?d");
        let store = "https://store.example/e";
        assert_eq!(to(store).unwrap(), store);
        for less in [
            "http://store.example/e",
            "http://127.0.0.1/e",
            "e",
            "ftp://store.example",
        ] {
            assert_eq!(to(less), None, "{less}");
        }
    }

    #[test]
    fn signatures_are_not_shown() {
        let address = Address("https://store.example/file?signature=secret".to_owned());
        assert!(!address.to_string().contains("secret"));
    }
}
