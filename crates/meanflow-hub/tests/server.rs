//! A hub on this machine: the two routes of a real one, and what can go wrong with them.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use meanflow_files::sha256;
use meanflow_hub::{Hub, HubError, Repository, Wanted};
use tempfile::TempDir;

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const WEIGHTS: &[u8] = b"the numbers of a model";

const FILES: [Wanted<'static>; 2] = [
    Wanted {
        name: "config.json",
        most: 1000,
        is_required: false,
    },
    Wanted {
        name: "model.safetensors",
        most: 1000,
        is_required: true,
    },
];

/// An answer: status, headers, body. The length is announced as `announced` says, or as it is.
#[derive(Clone)]
struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    announced: Option<usize>,
}

impl Answer {
    fn new(status: u16, body: &[u8]) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: body.to_owned(),
            announced: None,
        }
    }

    fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// To another address, with what a hub says of a large file.
    fn redirect(to: impl Into<String>, sha256: &str, bytes: usize) -> Self {
        Self::new(302, b"")
            .with("location", to)
            .with("x-linked-etag", format!("\"{sha256}\""))
            .with("x-linked-size", bytes.to_string())
    }
}

/// What was asked: the path, and the token that came with it.
type Asked = Arc<Mutex<Vec<(String, Option<String>)>>>;

/// A server with answers by path.
struct Server {
    address: String,
    asked: Asked,
    answers: Arc<Mutex<BTreeMap<String, Answer>>>,
}

impl Server {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let (asked, answers) = (Asked::default(), Arc::<Mutex<BTreeMap<_, _>>>::default());
        let (seen, known) = (Arc::clone(&asked), Arc::clone(&answers));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                serve(stream.unwrap(), &seen, &known);
            }
        });
        Self {
            address,
            asked,
            answers,
        }
    }

    /// One with a model, whose weights are in a store of its own, as large files are.
    fn hub() -> (Self, Self) {
        let (hub, store) = (Self::start(), Self::start());
        hub.describes("main", COMMIT);
        let files = format!("/owner/name/resolve/{COMMIT}");
        hub.answers(
            &format!("{files}/config.json"),
            Answer::new(200, b"{}").with("etag", "\"abc\""),
        );
        let to = format!("{}/blob?signature=secret", store.address);
        let redirect = Answer::redirect(to, &sha256(WEIGHTS), WEIGHTS.len());
        hub.answers(&format!("{files}/model.safetensors"), redirect);
        store.answers("/blob?signature=secret", Answer::new(200, WEIGHTS));
        (hub, store)
    }

    fn describes(&self, revision: &str, commit: &str) {
        let body = format!(
            r#"{{"sha": "{commit}", "siblings": [{{"rfilename": "config.json"}}, {{"rfilename": "model.safetensors"}}]}}"#
        );
        self.answers(
            &format!("/api/models/owner/name/revision/{revision}"),
            Answer::new(200, body.as_bytes()),
        );
    }

    fn answers(&self, path: &str, answer: Answer) {
        self.answers.lock().unwrap().insert(path.to_owned(), answer);
    }

    fn asked(&self) -> Vec<String> {
        self.asked
            .lock()
            .unwrap()
            .iter()
            .map(|(path, _)| path.clone())
            .collect()
    }
}

fn serve(mut stream: TcpStream, asked: &Asked, answers: &Mutex<BTreeMap<String, Answer>>) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    let Some(Ok(first)) = lines.next() else {
        return;
    };
    let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut token = None;
    for line in lines
        .map_while(Result::ok)
        .take_while(|line| !line.is_empty())
    {
        if let Some((name, value)) = line.split_once(": ")
            && name.eq_ignore_ascii_case("authorization")
        {
            token = Some(value.to_owned());
        }
    }
    asked.lock().unwrap().push((path.clone(), token));
    let known = answers.lock().unwrap().get(&path).cloned();
    let answer = known.unwrap_or_else(|| Answer::new(404, b"none"));
    let length = answer.announced.unwrap_or(answer.body.len());
    let mut head = format!(
        "HTTP/1.1 {} x\r\nconnection: close\r\ncontent-length: {length}\r\n",
        answer.status
    );
    for (name, value) in &answer.headers {
        head += &format!("{name}: {value}\r\n");
    }
    let _ = stream.write_all(format!("{head}\r\n").as_bytes());
    let _ = stream.write_all(&answer.body);
}

/// A cache of its own for a test.
struct Cache(TempDir);

impl Cache {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn hub(&self, server: &Server) -> Hub {
        Hub::new(&server.address, self.0.path().to_owned()).unwrap()
    }

    fn fetch(&self, server: &Server, name: &str) -> Result<PathBuf, HubError> {
        let repository: Repository = name.parse()?;
        self.hub(server).folder(&repository, &FILES)
    }

    /// Every file below, without those of the references.
    fn files(&self) -> Vec<String> {
        let mut folders = vec![self.0.path().to_owned()];
        let mut files = Vec::new();
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    files.push(path.file_name().unwrap().to_str().unwrap().to_owned());
                }
            }
        }
        files.sort();
        files
    }
}

#[test]
fn a_model_is_fetched_once_into_a_folder_of_its_commit() {
    let ((hub, store), cache) = (Server::hub(), Cache::new());
    let folder = cache.fetch(&hub, "hf:owner/name").unwrap();
    assert!(folder.ends_with(format!("models--owner--name/snapshots/{COMMIT}")));
    assert_eq!(fs::read(folder.join("model.safetensors")).unwrap(), WEIGHTS);
    assert_eq!(fs::read(folder.join("config.json")).unwrap(), b"{}");
    assert_eq!((hub.asked().len(), store.asked().len()), (3, 1));
    // Again: the revision is asked for anew, the files are there.
    assert_eq!(cache.fetch(&hub, "hf:owner/name@main").unwrap(), folder);
    assert_eq!((hub.asked().len(), store.asked().len()), (4, 1));
    // A commit is what it is, and offline what was known last: nothing is asked.
    assert_eq!(
        cache
            .fetch(&hub, &format!("hf:owner/name@{COMMIT}"))
            .unwrap(),
        folder
    );
    let repository = "hf:owner/name".parse().unwrap();
    assert_eq!(
        cache
            .hub(&hub)
            .offline()
            .folder(&repository, &FILES)
            .unwrap(),
        folder
    );
    assert_eq!((hub.asked().len(), store.asked().len()), (4, 1));
}

#[test]
fn a_revision_that_moves_gets_another_folder() {
    let ((hub, _store), cache) = (Server::hub(), Cache::new());
    let before = cache.fetch(&hub, "hf:owner/name").unwrap();
    let other = "f".repeat(40);
    hub.describes("main", &other);
    hub.answers(
        &format!("/owner/name/resolve/{other}/config.json"),
        Answer::new(200, b"[]"),
    );
    hub.answers(
        &format!("/owner/name/resolve/{other}/model.safetensors"),
        Answer::new(200, b"newer"),
    );
    let after = cache.fetch(&hub, "hf:owner/name").unwrap();
    assert_eq!(fs::read(after.join("model.safetensors")).unwrap(), b"newer");
    assert_eq!(fs::read(before.join("model.safetensors")).unwrap(), WEIGHTS);
}

#[test]
fn what_was_never_fetched_is_an_error_offline_without_a_request() {
    let ((hub, _store), cache) = (Server::hub(), Cache::new());
    let repository: Repository = "hf:owner/name".parse().unwrap();
    let error = cache
        .hub(&hub)
        .offline()
        .folder(&repository, &FILES)
        .unwrap_err();
    assert!(matches!(error, HubError::Offline { .. }), "{error}");
    assert_eq!(hub.asked(), [""; 0]);
}

/// Each way in which a file is not what the hub says: an error in words, and nothing is kept.
#[test]
fn damaged_files_are_never_kept() {
    let path = format!("/owner/name/resolve/{COMMIT}/model.safetensors");
    let of_length = |announced| Answer {
        announced: Some(announced),
        ..Answer::new(200, WEIGHTS)
    };
    let hash = sha256(WEIGHTS);
    let ways: [(&str, Answer, Answer); 5] = [
        (
            "SHA-256",
            Answer::redirect("/blob", &"0".repeat(64), WEIGHTS.len()),
            Answer::new(200, WEIGHTS),
        ),
        (
            "bytes",
            Answer::redirect("/blob", &hash, WEIGHTS.len() + 1),
            Answer::new(200, WEIGHTS),
        ),
        (
            "SHA-256",
            Answer::redirect("/blob", &hash, WEIGHTS.len()),
            Answer::new(200, &WEIGHTS.to_ascii_uppercase()),
        ),
        // Cut off: the connection ends before the announced length.
        (
            "model.safetensors",
            Answer::redirect("/blob", &hash, WEIGHTS.len()),
            of_length(WEIGHTS.len() + 9),
        ),
        (
            "at most 1000 bytes",
            Answer::redirect("/blob", &hash, 2000),
            Answer::new(200, &[0; 2000]),
        ),
    ];
    for (words, first, second) in ways {
        let ((hub, _store), cache) = (Server::hub(), Cache::new());
        hub.answers(&path, first);
        hub.answers("/blob", second);
        let error = cache.fetch(&hub, "hf:owner/name").unwrap_err().to_string();
        assert!(error.contains(words), "{words}: {error}");
        assert_eq!(cache.files(), ["config.json"], "{words}");
        // Mended, the same name works.
        hub.answers(&path, Answer::new(200, WEIGHTS));
        cache.fetch(&hub, "hf:owner/name").unwrap();
    }
}

#[test]
fn refusals_say_what_to_do() {
    let revision = "/api/models/owner/name/revision/main";
    for (status, words) in [
        (401, "HF_TOKEN"),
        (403, "HF_TOKEN"),
        (404, "no such repository"),
        (429, "later"),
        (500, "refuses"),
    ] {
        let ((hub, _store), cache) = (Server::hub(), Cache::new());
        hub.answers(revision, Answer::new(status, b"no"));
        let error = cache.fetch(&hub, "hf:owner/name").unwrap_err().to_string();
        assert!(
            error.contains(&status.to_string()) && error.contains(words),
            "{error}"
        );
        assert_eq!(cache.files(), [""; 0]);
    }
    let cache = Cache::new();
    let closed = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let hub = Hub::new(&format!("http://{closed}"), cache.0.path().to_owned()).unwrap();
    let error = hub
        .folder(&"hf:owner/name".parse().unwrap(), &FILES)
        .unwrap_err();
    assert!(matches!(error, HubError::Network { .. }), "{error}");
}

#[test]
fn redirections_end_and_lead_to_nothing_less_safe() {
    let path = format!("/owner/name/resolve/{COMMIT}/model.safetensors");
    for (to, words) in [
        (path.as_str(), "at most 5 redirections"),
        ("http://hub.example/x", "HTTPS"),
        ("file:///etc/passwd", "HTTPS"),
    ] {
        let ((hub, _store), cache) = (Server::hub(), Cache::new());
        hub.answers(&path, Answer::new(302, b"").with("location", to));
        let error = cache.fetch(&hub, "hf:owner/name").unwrap_err().to_string();
        assert!(error.contains(words), "{to}: {error}");
        assert_eq!(cache.files(), ["config.json"]);
    }
}

/// A commit is part of a path.
#[test]
fn a_hub_cannot_write_elsewhere() {
    for commit in [
        "../../../../etc",
        "",
        "main",
        "0123456789ABCDEF0123456789ABCDEF01234567",
    ] {
        let ((hub, _store), cache) = (Server::hub(), Cache::new());
        hub.describes("main", commit);
        let error = cache.fetch(&hub, "hf:owner/name").unwrap_err();
        assert!(matches!(error, HubError::Answer { .. }), "{error}");
        assert_eq!(cache.files(), [""; 0]);
    }
}

#[test]
fn a_file_that_may_be_missing_may_be_missing() {
    let ((hub, _store), cache) = (Server::hub(), Cache::new());
    let body =
        format!(r#"{{"sha": "{COMMIT}", "siblings": [{{"rfilename": "model.safetensors"}}]}}"#);
    hub.answers(
        "/api/models/owner/name/revision/main",
        Answer::new(200, body.as_bytes()),
    );
    cache.fetch(&hub, "hf:owner/name").unwrap();
    assert_eq!(cache.files(), ["main", "model.safetensors"]);
    hub.answers(
        &format!("/owner/name/resolve/{COMMIT}/model.safetensors"),
        Answer::new(404, b""),
    );
    let other = Cache::new();
    let error = other.fetch(&hub, "hf:owner/name").unwrap_err().to_string();
    assert!(
        error.contains("404") && error.contains("model.safetensors"),
        "{error}"
    );
}

/// The store that a hub leads to is another host.
#[test]
fn a_token_goes_to_the_hub_and_nowhere_else() {
    let ((hub, store), cache) = (Server::hub(), Cache::new());
    let hub_of = cache.hub(&hub).with_token("of mine");
    hub_of
        .folder(&"hf:owner/name".parse().unwrap(), &FILES)
        .unwrap();
    let tokens = |server: &Server| -> Vec<_> {
        server
            .asked
            .lock()
            .unwrap()
            .iter()
            .map(|(_, token)| token.clone())
            .collect()
    };
    assert!(
        tokens(&hub)
            .iter()
            .all(|token| token.as_deref() == Some("Bearer of mine"))
    );
    assert_eq!(tokens(&store), [None]);
}
