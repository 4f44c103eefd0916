//! What one request, one connection and all of them together may take.

use std::time::Duration;

/// The limits of a server. Whatever is beyond one of them is refused with a status that says so, before work is done for it.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Bytes of a request's body.
    pub body: usize,
    /// Bytes that the body of a request with a picture may have more.
    pub picture: usize,
    /// Samples of one request.
    pub samples: usize,
    /// Pixels of all samples of one request.
    pub pixels: usize,
    /// Evaluations of the network for one sample.
    pub nfe: usize,
    /// Jobs that wait for the thread with the models; the next one is answered 503.
    pub queue: usize,
    /// Requests that are worked on at the same time; the next one is answered 503.
    pub requests: usize,
    /// Open connections; the next one is answered 503 and closed.
    pub connections: usize,
    /// Headers of one request.
    pub headers: usize,
    /// Bytes of all headers of one request.
    pub header_bytes: usize,
    /// Until a request's headers are complete; a connection without a request is closed then, too.
    pub header_time: Duration,
    /// Until a request is answered.
    pub request_time: Duration,
    /// Until open requests are given up when the server stops.
    pub drain_time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body: 64 << 10,
            picture: 1 << 20,
            samples: 64,
            pixels: 16 << 20,
            nfe: 64,
            queue: 64,
            requests: 256,
            connections: 700,
            headers: 64,
            header_bytes: 16 << 10,
            header_time: Duration::from_secs(10),
            request_time: Duration::from_secs(60),
            drain_time: Duration::from_secs(25),
        }
    }
}
