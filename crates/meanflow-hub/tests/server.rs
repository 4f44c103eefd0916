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
    wanted("config.json", false),
    wanted("model.safetensors", true),
];

const fn wanted(name: &'static str, is_required: bool) -> Wanted<'static> {
    Wanted {
        name,
        most: 1000,
        is_required,
    }
}

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
        let config = Answer::new(200, b"{}").with("etag", "\"abc\"");
        hub.answers(&format!("{files}/config.json"), config);
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
        let path = format!("/api/models/owner/name/revision/{revision}");
        self.answers(&path, Answer::new(200, body.as_bytes()));
    }

    fn answers(&self, path: &str, answer: Answer) {
        self.answers.lock().unwrap().insert(path.to_owned(), answer);
    }

    /// The paths that were asked for, and the tokens that came with them.
    fn asked(&self) -> (Vec<String>, Vec<Option<String>>) {
        self.asked.lock().unwrap().iter().cloned().unzip()
    }

    /// How often it was asked.
    fn count(&self) -> usize {
        self.asked.lock().unwrap().len()
    }
}

fn serve(mut stream: TcpStream, asked: &Asked, answers: &Mutex<BTreeMap<String, Answer>>) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    let Some(Ok(first)) = lines.next() else {
        return;
    };
    let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
    let lines = lines.map_while(Result::ok);
    let mut lines = lines.take_while(|line| !line.is_empty());
    let token = lines.find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        let is_token = name.eq_ignore_ascii_case("authorization");
        is_token.then(|| value.to_owned())
    });
    lines.for_each(drop);
    asked.lock().unwrap().push((path.clone(), token));
    let known = answers.lock().unwrap().get(&path).cloned();
    let answer = known.unwrap_or_else(|| Answer::new(404, b"none"));
    let length = answer.announced.unwrap_or(answer.body.len());
    let status = answer.status;
    let mut head =
        format!("HTTP/1.1 {status} x\r\nconnection: close\r\ncontent-length: {length}\r\n");
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
    assert_eq!((hub.count(), store.count()), (3, 1));
    // Again: the revision is asked for anew, the files are there.
    assert_eq!(cache.fetch(&hub, "hf:owner/name@main").unwrap(), folder);
    assert_eq!((hub.count(), store.count()), (4, 1));
    // A commit is what it is, and offline what was known last: nothing is asked.
    let commit = format!("hf:owner/name@{COMMIT}");
    assert_eq!(cache.fetch(&hub, &commit).unwrap(), folder);
    let repository = "hf:owner/name".parse().unwrap();
    let offline = cache.hub(&hub).offline();
    assert_eq!(offline.folder(&repository, &FILES).unwrap(), folder);
    assert_eq!((hub.count(), store.count()), (4, 1));
}

#[test]
fn a_revision_that_moves_gets_another_folder() {
    let ((hub, _store), cache) = (Server::hub(), Cache::new());
    let before = cache.fetch(&hub, "hf:owner/name").unwrap();
    let other = "f".repeat(40);
    hub.describes("main", &other);
    for (name, body) in [("config.json", &b"[]"[..]), ("model.safetensors", b"newer")] {
        let path = format!("/owner/name/resolve/{other}/{name}");
        hub.answers(&path, Answer::new(200, body));
    }
    let after = cache.fetch(&hub, "hf:owner/name").unwrap();
    assert_eq!(fs::read(after.join("model.safetensors")).unwrap(), b"newer");
    assert_eq!(fs::read(before.join("model.safetensors")).unwrap(), WEIGHTS);
}

#[test]
fn what_was_never_fetched_is_an_error_offline_without_a_request() {
    let ((hub, _store), cache) = (Server::hub(), Cache::new());
    let repository: Repository = "hf:owner/name".parse().unwrap();
    let offline = cache.hub(&hub).offline();
    let error = offline.folder(&repository, &FILES).unwrap_err();
    assert!(matches!(error, HubError::Offline { .. }), "{error}");
    assert_eq!(hub.count(), 0);
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
    let (whole, length) = (Answer::new(200, WEIGHTS), WEIGHTS.len());
    let other = Answer::new(200, &WEIGHTS.to_ascii_uppercase());
    let large = Answer::new(200, &[0; 2000]);
    for (words, hash, bytes, second) in [
        ("SHA-256", &"0".repeat(64), length, whole.clone()),
        ("bytes", &hash, length + 1, whole),
        ("SHA-256", &hash, length, other),
        // Cut off: the connection ends before the announced length.
        ("model.safetensors", &hash, length, of_length(length + 9)),
        ("at most 1000 bytes", &hash, 2000, large),
    ] {
        let ((hub, _store), cache) = (Server::hub(), Cache::new());
        hub.answers(&path, Answer::redirect("/blob", hash, bytes));
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
        let says_why = error.contains(&status.to_string()) && error.contains(words);
        assert!(says_why, "{error}");
        assert_eq!(cache.files(), [""; 0]);
    }
    let cache = Cache::new();
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr();
    let address = format!("http://{}", closed.unwrap());
    let hub = Hub::new(&address, cache.0.path().to_owned()).unwrap();
    let repository = "hf:owner/name".parse().unwrap();
    let error = hub.folder(&repository, &FILES).unwrap_err();
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
    for commit in ["../../../../etc", "", "main", &COMMIT.to_uppercase()] {
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
    let revision = "/api/models/owner/name/revision/main";
    hub.answers(revision, Answer::new(200, body.as_bytes()));
    cache.fetch(&hub, "hf:owner/name").unwrap();
    assert_eq!(cache.files(), ["main", "model.safetensors"]);
    let path = format!("/owner/name/resolve/{COMMIT}/model.safetensors");
    hub.answers(&path, Answer::new(404, b""));
    let other = Cache::new();
    let error = other.fetch(&hub, "hf:owner/name").unwrap_err().to_string();
    let says_what = error.contains("404") && error.contains("model.safetensors");
    assert!(says_what, "{error}");
}

/// The store that a hub leads to is another host.
#[test]
fn a_token_goes_to_the_hub_and_nowhere_else() {
    let ((hub, store), cache) = (Server::hub(), Cache::new());
    let hub_of = cache.hub(&hub).with_token("of mine");
    let repository = "hf:owner/name".parse().unwrap();
    hub_of.folder(&repository, &FILES).unwrap();
    let mine = Some("Bearer of mine".to_owned());
    assert_eq!(hub.asked().1, [mine.clone(), mine.clone(), mine]);
    assert_eq!(store.asked().1, [None]);
}
