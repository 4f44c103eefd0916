//! Trained models and runs behind HTTP: a page to play with a model and to watch a run, and the JSON API that the page uses.
//!
//! One thread owns the models. Requests wait for it in a queue of fixed length, and those that ask for the same kind of samples share
//! an evaluation of the network: a sample depends on its seed, its class, the steps and the weights alone, so who shares
//! changes no digit. Nothing in a request names a file: models and runs are given when the server starts, and a request
//! names them by the ids that [`Server::catalogue`] lists.
//!
//! ```no_run
//! use meanflow_serve::{Options, Server};
//!
//! let server = Server::open(&["runs/digits".into()], &Options::default())?;
//! println!("http://{}", server.address());
//! server.run(std::future::pending());
//! # Ok::<(), meanflow_serve::ServeError>(())
//! ```

mod api;
mod api_error;
mod catalogue;
mod class;
mod error;
mod http;
mod limits;
mod options;
mod picture;
mod server;
mod studio;
mod telemetry;
mod training_data;

pub use catalogue::{Catalogue, ModelEntry, RunEntry};
pub use error::ServeError;
pub use limits::Limits;
pub use options::Options;
pub use server::Server;

/// The code in the README compiles and runs.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
