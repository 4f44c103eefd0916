//! A server, from its models to its last answer.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use tokio::net::{TcpListener, TcpSocket};
use tokio::runtime::{Builder, Runtime};

use crate::api::App;
use crate::catalogue::{self, Catalogue};
use crate::http::{Guard, accept, router};
use crate::studio::Studio;
use crate::telemetry::Telemetry;
use crate::training_data::TrainingData;
use crate::{Options, ServeError};

/// Threads that answer; the models have others.
const THREADS: usize = 2;

/// A server that has its models and its address.
#[derive(Debug)]
pub struct Server {
    app: Arc<App>,
    router: Router,
    listener: TcpListener,
    address: SocketAddr,
    runtime: Runtime,
}

impl Server {
    /// Reads the models and begins to listen; requests are answered once it runs.
    ///
    /// # Errors
    /// When a path is neither a model nor a run, a model cannot be read, the address is taken, or other machines could reach it and
    /// there is no token.
    pub fn open(paths: &[PathBuf], options: &Options) -> Result<Self, ServeError> {
        let guarded = Guard::new(options.address, options.token.as_deref())?;
        drop(guarded);
        let (catalogue, models) = catalogue::open(paths, options)?;
        let threads = Builder::new_multi_thread()
            .worker_threads(THREADS)
            .enable_all()
            .build();
        let runtime = threads.map_err(ServeError::Threads)?;
        let listen = |source| ServeError::Listen {
            address: options.address,
            source,
        };
        let listener = runtime
            .block_on(async { listener(options.address) })
            .map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        let telemetry = Arc::new(Telemetry::new());
        let limits = options.limits.clone();
        let studio =
            Studio::start(models, limits.queue, &telemetry).map_err(ServeError::Threads)?;
        let data = TrainingData::new(catalogue.models.len());
        let app = Arc::new(App {
            catalogue,
            studio,
            telemetry,
            limits,
            data,
        });
        let router = router(&app, Guard::new(address, options.token.as_deref())?);
        Ok(Self {
            app,
            router,
            listener,
            address,
            runtime,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it has.
    pub fn catalogue(&self) -> &Catalogue {
        &self.app.catalogue
    }

    /// Answers until `stop` is ready. Open requests then have some time to be answered.
    pub fn run(self, stop: impl Future<Output = ()>) {
        let Self {
            app,
            router,
            listener,
            runtime,
            ..
        } = self;
        runtime.block_on(accept(listener, router, &app.limits, &app.telemetry, stop));
        runtime.shutdown_background();
    }
}

/// A listener before which many connections may wait: one more would be dropped by the system, and tried again by its client only
/// after a second.
fn listener(address: SocketAddr) -> io::Result<TcpListener> {
    const WAITING: u32 = 4096;
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    // A server that was ended a moment ago holds the address no longer.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(WAITING)
}
