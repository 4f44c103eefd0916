//! Connections: how many, how long, and how they end.

use std::future::Future;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;

use crate::limits::Limits;
use crate::telemetry::Telemetry;

/// What a connection beyond the limit is told.
const REFUSAL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nretry-after: 1\r\nconnection: close\r\n\
content-length: 75\r\n\r\n{\"error\":{\"code\":\"busy\",\"message\":\"too many connections at the same time\"}}";
/// Connections beyond the limit that are told so at the same time; others are closed without a word.
const REFUSED_AT_ONCE: usize = 128;
/// How long one that is told so may take to listen.
const REFUSAL_TIME: Duration = Duration::from_secs(1);
/// How long nothing is accepted after the system would not open another connection.
const PAUSE: Duration = Duration::from_millis(50);

/// Accepts connections until `stop` is ready; then open requests have the time of the limits to end.
pub(crate) async fn accept(
    listener: TcpListener,
    router: Router,
    limits: &Limits,
    telemetry: &Arc<Telemetry>,
    stop: impl Future<Output = ()>,
) {
    let places = Arc::new(Semaphore::new(limits.connections));
    let refusals = Arc::new(Semaphore::new(REFUSED_AT_ONCE));
    let (stopping, stopped) = watch::channel(());
    let mut open = JoinSet::new();
    let mut stop = pin!(stop);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut stop => break,
        };
        while open.try_join_next().is_some() {}
        let Some(stream) = opened(accepted).await else {
            continue;
        };
        match Arc::clone(&places).try_acquire_owned() {
            Ok(place) => {
                let telemetry = Arc::clone(telemetry);
                let (router, stopped) = (router.clone(), stopped.clone());
                let connection = Connection {
                    stream,
                    router,
                    telemetry,
                    place,
                };
                open.spawn(connection.serve(limits.clone(), stopped));
            }
            Err(_) => {
                telemetry.refused.inc();
                if let Ok(place) = Arc::clone(&refusals).try_acquire_owned() {
                    open.spawn(refuse(stream, place));
                }
            }
        }
    }
    drop(listener);
    // Every connection finishes what it does, and closes.
    drop(stopped);
    stopping.send_replace(());
    let all = async { while open.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(limits.drain_time, all).await;
}

/// A connection that was accepted; none where it was closed before, or where the system opens no more at the moment.
async fn opened(accepted: io::Result<(TcpStream, SocketAddr)>) -> Option<TcpStream> {
    match accepted {
        Ok((stream, _)) => Some(stream),
        Err(error) if is_gone(error.kind()) => None,
        Err(_) => {
            tokio::time::sleep(PAUSE).await;
            None
        }
    }
}

/// Whether a connection that was waiting was closed before it could be accepted.
fn is_gone(error: ErrorKind) -> bool {
    use ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(
        error,
        ConnectionAborted | ConnectionRefused | ConnectionReset
    )
}

struct Connection {
    stream: TcpStream,
    router: Router,
    telemetry: Arc<Telemetry>,
    place: OwnedSemaphorePermit,
}

impl Connection {
    async fn serve(self, limits: Limits, mut stopped: watch::Receiver<()>) {
        self.telemetry.connections.inc();
        // Small answers are not held back.
        let _ = self.stream.set_nodelay(true);
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(limits.header_time)
            .max_headers(limits.headers)
            .max_buf_size(limits.header_bytes.max(8192))
            .serve_connection(
                TokioIo::new(self.stream),
                TowerToHyperService::new(self.router),
            );
        let mut connection = pin!(connection);
        // What goes wrong on a connection concerns only who is at its other end.
        tokio::select! {
            _ = connection.as_mut() => {}
            _ = stopped.changed() => {
                connection.as_mut().graceful_shutdown();
                let _ = connection.await;
            }
        }
        self.telemetry.connections.dec();
        drop(self.place);
    }
}

/// Says that there are too many connections. What was sent is read first: closing before would take the answer back.
async fn refuse(mut stream: TcpStream, place: OwnedSemaphorePermit) {
    let told = async {
        let mut sent = [0; 4096];
        let _ = stream.read(&mut sent).await;
        let _ = stream.write_all(REFUSAL).await;
        let _ = stream.shutdown().await;
    };
    let _ = tokio::time::timeout(REFUSAL_TIME, told).await;
    drop(place);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_refusal_is_a_whole_answer() {
        let text = std::str::from_utf8(REFUSAL).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(
            head.contains(&format!("content-length: {}", body.len())),
            "{}",
            body.len()
        );
        serde_json::from_str::<serde_json::Value>(body).unwrap();
    }
}
