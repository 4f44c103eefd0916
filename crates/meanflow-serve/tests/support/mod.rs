//! A server with a small network, and a client that sends any bytes.

use std::io::{Cursor, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::thread::JoinHandle;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use meanflow_serve::{Limits, Options, Server};
use meanflow_testing::networks;
use meanflow_torch::layers::TimeEmbedding;
use meanflow_torch::sampler::noise;
use meanflow_torch::{Device, Kind, Model};
use meanflow_train::CLASS_NAMES_KEY;
use serde_json::Value;
use tch::no_grad;
use tokio::sync::oneshot;

/// A server in a thread, which ends with this.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    _folder: tempfile::TempDir,
}

impl Running {
    pub(crate) fn start(limits: Limits) -> Self {
        Self::start_with(limits, None)
    }

    pub(crate) fn start_with(limits: Limits, token: Option<&str>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cloud.safetensors");
        model(&path);
        let options = Options {
            address: "127.0.0.1:0".parse().unwrap(),
            token: token.map(str::to_owned),
            limits,
            ..Options::default()
        };
        let server = Server::open(&[path], &options).unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let address = server.address();
        let thread = std::thread::spawn(move || {
            server.run(async {
                let _ = stopped.await;
            });
        });
        Self {
            address,
            stop: Some(stop),
            thread: Some(thread),
            _folder: folder,
        }
    }

    /// Tells it to stop.
    pub(crate) fn stop(&mut self) {
        let _ = self.stop.take().map(|stop| stop.send(()));
    }

    /// Waits until it has.
    pub(crate) fn join(&mut self) {
        self.thread.take().unwrap().join().unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Pictures of 6 × 6 in three classes, by a network all of whose parameters are random: as published it starts at zero.
fn model(path: &Path) {
    let network = networks::dit([2, 16, 1, 2], 2.0, TimeEmbedding::TH);
    let config = networks::config(network, &[1, 6, 6], 3);
    let model = Model::new(config, 0, Device::Cpu, Kind::Float).unwrap();
    for (place, tensor) in model.parameters().tensors().into_iter().enumerate() {
        // Small enough for the jumps to be inverted, large enough for classes and steps to differ.
        let values = noise(&[place as u64], &tensor.size()).squeeze_dim(0) * 0.12;
        no_grad(|| tensor.shallow_clone().copy_(&values));
    }
    model.parameters().changed();
    let names = serde_json::to_string(&["a", "b", "c"]).unwrap();
    let metadata = [(CLASS_NAMES_KEY.to_owned(), names)].into();
    model.save(path, metadata).unwrap();
}

/// An answer.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    body: Vec<u8>,
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {} {}", self.head, self.text()))
    }
}

/// Sends these bytes, and reads until the connection is closed or whole.
pub(crate) fn request(server: &Running, bytes: &[u8]) -> Answer {
    let mut stream = TcpStream::connect(server.address).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(60)))
        .unwrap();
    // A server that has refused already may have closed.
    let _ = stream.write_all(bytes);
    let (mut got, mut buffer) = (Vec::new(), [0; 65536]);
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => got.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => break,
            Err(error) => panic!("{error} after {} bytes", got.len()),
        }
        if is_whole(&got) {
            break;
        }
    }
    let end = got
        .windows(4)
        .position(|bytes| bytes == b"\r\n\r\n")
        .unwrap_or(got.len());
    let head = String::from_utf8_lossy(&got[..end]).into_owned();
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok())
        .unwrap_or(0);
    Answer {
        status,
        head,
        body: got.get(end + 4..).unwrap_or_default().to_vec(),
    }
}

fn is_whole(got: &[u8]) -> bool {
    let Some(end) = got.windows(4).position(|bytes| bytes == b"\r\n\r\n") else {
        return false;
    };
    let head = String::from_utf8_lossy(&got[..end]).to_lowercase();
    let length = head.lines().find_map(|line| {
        line.strip_prefix("content-length:")?
            .trim()
            .parse::<usize>()
            .ok()
    });
    length.is_some_and(|length| got.len() >= end + 4 + length)
}

pub(crate) fn get(server: &Running, path: &str) -> Answer {
    let host = server.address;
    request(
        server,
        format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").as_bytes(),
    )
}

pub(crate) fn post(server: &Running, path: &str, body: &Value) -> Answer {
    let (host, body) = (server.address, body.to_string());
    let length = body.len();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    request(server, format!("{head}{body}").as_bytes())
}

/// The pixels of a sample.
pub(crate) fn pixels(sample: &Value) -> Vec<u8> {
    let file = BASE64_STANDARD
        .decode(sample["png"].as_str().unwrap())
        .unwrap();
    let mut reader = png::Decoder::new(Cursor::new(file)).read_info().unwrap();
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    reader.next_frame(&mut pixels).unwrap();
    pixels
}

/// Two samples show the same but for the rounding of a byte: evaluations of other numbers of rows differ in their last bits.
pub(crate) fn same_picture(one: &Value, other: &Value) {
    for (one, other) in pixels(one).into_iter().zip(pixels(other)) {
        assert!(one.abs_diff(other) <= 1, "{one} {other}");
    }
}
