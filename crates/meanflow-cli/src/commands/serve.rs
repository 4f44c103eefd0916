//! `meanflow serve`.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::thread;

use anyhow::Context;
use meanflow_serve::{Options, ServeError, Server};
use meanflow_torch::weights::Verify;
use serde_json::json;
use tokio::sync::oneshot;

use crate::commands::opening::open_device;
use crate::options::{Compute, Reading};
use crate::output::{is_json, note, say};
use crate::signals;
use crate::usage::Usage;

/// Longest file that is read as a token.
const MOST_BYTES: u64 = 4096;

/// Open models and runs in a browser: draw samples, compare steps, watch a training.
///
/// The page and its JSON API are on this machine alone, unless a token allows others; /openapi.json describes the API. Ctrl-C and
/// SIGTERM answer what is asked, then end the server.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  meanflow serve runs/digits\n  meanflow serve runs --bind 127.0.0.1:9000\n  \
meanflow serve model.safetensors runs/second\n  meanflow serve runs --bind 0.0.0.0:8080 --token-file token"
)]
pub(crate) struct Serve {
    /// Weights files, run directories, or folders of run directories
    #[arg(value_name = "MODEL|RUN", required = true)]
    paths: Vec<PathBuf>,
    /// Where to listen; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8080")]
    bind: SocketAddr,
    /// A file with the token that every request has to carry; without one only this machine is answered
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// The VAE that turns latents into pictures: a folder as diffusers writes it, or its weights (.safetensors)
    #[arg(long, value_name = "DIR|FILE")]
    vae: Option<PathBuf>,
    #[command(flatten)]
    reading: Reading,
    #[command(flatten)]
    compute: Compute,
}

pub(crate) fn run(args: &Serve) -> anyhow::Result<u8> {
    // Before libtorch makes threads, which would be interrupted.
    let signals = signals::channel()?;
    let token = args.token_file.as_ref().map(token).transpose()?;
    if token.is_none() && !args.bind.ip().is_loopback() {
        let text = format!(
            "--bind: {} can be reached from other machines: expected --token-file with it, or 127.0.0.1",
            args.bind
        );
        return Err(Usage(text).into());
    }
    let options = Options {
        address: args.bind,
        token,
        device: open_device(&args.compute)?,
        verify: match args.reading.no_verify {
            true => Verify::Nothing,
            false => Verify::Content,
        },
        vae: args.vae.clone(),
        ..Options::default()
    };
    let server = Server::open(&args.paths, &options).map_err(refused)?;
    tell(&server);
    let (stop, stopped) = oneshot::channel();
    thread::spawn(move || {
        let signal = signals.recv();
        note("stopping: open requests are answered first; again to stop at once");
        let _ = stop.send(());
        if signal.is_ok() && signals.recv().is_ok() {
            crate::output::end(130);
        }
    });
    server.run(async {
        let _ = stopped.await;
    });
    Ok(0)
}

/// An error of a model as every command reports it, and what the command line has to say better.
fn refused(error: ServeError) -> anyhow::Error {
    match error {
        ServeError::Torch(error) => error.into(),
        ServeError::Train(error) => error.into(),
        ServeError::Listen { .. } | ServeError::Threads(_) => error.into(),
        ServeError::Open(_) | ServeError::Token { .. } | ServeError::Nothing { .. } => {
            Usage(error.to_string()).into()
        }
    }
}

fn tell(server: &Server) {
    let (address, catalogue) = (server.address(), server.catalogue());
    if is_json() {
        let url = format!("http://{address}/");
        say(format_args!(
            "{}",
            json!({"url": url, "catalogue": catalogue})
        ));
        return;
    }
    let (models, runs) = (catalogue.models.len(), catalogue.runs.len());
    let count = |number: usize, what: &str| {
        format!("{number} {what}{}", if number == 1 { "" } else { "s" })
    };
    say(format_args!(
        "http://{address}/ has {} and {}; Ctrl-C ends it",
        count(models, "model"),
        count(runs, "run")
    ));
}

/// The token in a file, without the line's end.
fn token(path: &PathBuf) -> anyhow::Result<String> {
    let shown = path.display();
    let length =
        fs::metadata(path).with_context(|| format!("--token-file: could not read {shown}"))?;
    if !length.is_file() || length.len() > MOST_BYTES {
        let text = format!("--token-file: {shown}: expected a file of at most {MOST_BYTES} bytes");
        return Err(Usage(text).into());
    }
    let text = fs::read_to_string(path)
        .with_context(|| format!("--token-file: could not read {shown}"))?;
    Ok(text.trim().to_owned())
}
