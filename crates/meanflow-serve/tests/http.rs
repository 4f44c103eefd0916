//! The server over real sockets: what it answers, what it refuses, and that it stays up.

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use meanflow_serve::Limits;
use serde_json::{Value, json};
use support::{Running, get, post, request};

fn seeds(server: &Running, seeds: &[u64], steps: usize) -> Value {
    let asked = json!({"model": "cloud", "seeds": seeds, "class": "balanced", "steps": steps});
    post(server, "/api/sample", &asked).json()
}

#[test]
fn a_sample_depends_on_its_seed_alone() {
    let server = Running::start(Limits::default());
    let many = seeds(&server, &[5, 6, 7, 8], 1);
    let one = seeds(&server, &[7], 1);
    assert_eq!(one["samples"][0], many["samples"][2]);
    assert_eq!(one["nfe"], 1);
    let two = seeds(&server, &[7], 2);
    assert_ne!(two["samples"][0]["png"], one["samples"][0]["png"]);
}

#[test]
fn requests_at_the_same_time_share_an_evaluation_and_no_digit_changes() {
    let server = Running::start(Limits::default());
    let alone: Vec<Value> = (0..24)
        .map(|seed| seeds(&server, &[seed], 1)["samples"][0].clone())
        .collect();
    let together: Vec<Value> = std::thread::scope(|scope| {
        let asked: Vec<_> = (0..24)
            .map(|seed| {
                scope.spawn({
                    let server = &server;
                    move || seeds(server, &[seed], 1)
                })
            })
            .collect();
        asked
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    let shared = together
        .iter()
        .map(|answer| answer["shared_by"].as_u64().unwrap())
        .max();
    assert!(
        shared > Some(1),
        "24 requests at once, and none shared: {shared:?}"
    );
    for (one, answer) in alone.iter().zip(&together) {
        assert_eq!(*one, answer["samples"][0]);
    }
}

#[test]
fn the_ends_of_an_interpolation_are_the_samples_of_its_seeds() {
    let server = Running::start(Limits::default());
    let asked = json!({"model": "cloud", "seeds": [3, 9], "count": 5, "class": 1});
    let between = post(&server, "/api/interpolate", &asked).json();
    for (place, seed) in [(0, 3), (4, 9)] {
        let asked = json!({"model": "cloud", "seeds": [seed], "class": 1});
        let sample = post(&server, "/api/sample", &asked).json();
        support::same_picture(&between["samples"][place], &sample["samples"][0]);
    }
}

#[test]
fn a_variation_of_strength_1_is_the_sample_of_its_seed() {
    let server = Running::start(Limits::default());
    let asked = json!({"model": "cloud", "seeds": [11], "class": 0, "steps": 4});
    let sample = post(&server, "/api/sample", &asked).json();
    let picture = &sample["samples"][0]["png"];
    let asked = json!({"model": "cloud", "picture": picture, "class": 0, "strength": 1.0, "seeds": [12], "steps": 4});
    let varied = post(&server, "/api/vary", &asked).json();
    let asked = json!({"model": "cloud", "seeds": [12], "class": 0, "steps": 4});
    let other = post(&server, "/api/sample", &asked).json();
    support::same_picture(&varied["samples"][1], &other["samples"][0]);
    // The network is smooth, so its jumps can be inverted: the picture is found again but for its rounding to bytes.
    assert!(
        varied["residual"].as_f64().unwrap() < 1e-3,
        "{}",
        varied["residual"]
    );
    support::same_picture(&varied["samples"][0], &sample["samples"][0]);
}

#[test]
fn a_completion_keeps_what_is_not_marked() {
    let server = Running::start(Limits::default());
    let asked = json!({"model": "cloud", "seeds": [11], "class": 0});
    let sample = post(&server, "/api/sample", &asked).json();
    let mask = format!("{}{}", "0".repeat(18), "1".repeat(18));
    let asked = |mask: &str| json!({"model": "cloud", "picture": sample["samples"][0]["png"], "mask": mask, "class": 0, "seeds": [1, 2]});
    let completed = post(&server, "/api/inpaint", &asked(&mask)).json();
    let given = support::pixels(&sample["samples"][0]);
    let [one, other] = [0, 1].map(|place| support::pixels(&completed["samples"][place]));
    assert_eq!((&one[..18], &other[..18]), (&given[..18], &given[..18]));
    assert!(one[18..] != given[18..] && one[18..] != other[18..]);
    for wrong in ["", "01", &"2".repeat(36), &"1".repeat(37)] {
        let answer = post(&server, "/api/inpaint", &asked(wrong));
        assert!(
            answer.status == 422 && answer.text().contains("mask: expected"),
            "{}",
            answer.text()
        );
    }
}

#[test]
fn the_last_states_of_a_trajectory_are_where_its_ways_lead() {
    let server = Running::start(Limits::default());
    let asked = json!({"model": "cloud", "seed": 4, "class": 2, "times": 5});
    let answer = post(&server, "/api/trajectory", &asked).json();
    let states = answer["samples"].as_array().unwrap();
    assert_eq!(states.len(), 15);
    let jump = json!({"model": "cloud", "seeds": [4], "class": 2});
    let jump = post(&server, "/api/sample", &jump).json();
    support::same_picture(&states[9], &jump["samples"][0]);
    support::same_picture(&states[10], &jump["samples"][0]);
    let ode = json!({"model": "cloud", "seeds": [4], "class": 2, "steps": 16, "method": "heun"});
    let ode = post(&server, "/api/sample", &ode).json();
    support::same_picture(&states[4], &ode["samples"][0]);
    support::same_picture(&states[0], &states[5]);
}

#[test]
fn what_cannot_be_is_refused_with_its_reason() {
    let server = Running::start(Limits::default());
    let ok = json!({"model": "cloud", "seeds": [1]});
    let with = |key: &str, value: Value| {
        let mut asked = ok.clone();
        asked[key] = value;
        asked
    };
    let cases = [
        (with("model", json!("other")), 404, "other"),
        (with("seeds", json!([])), 422, "seeds"),
        (with("seeds", json!(vec![1; 65])), 422, "1 to 64"),
        (with("seeds", json!([-1])), 422, "seeds"),
        (with("seeds", json!([1.5])), 422, "seeds"),
        (with("steps", json!(0)), 422, "steps"),
        (with("steps", json!(65)), 422, "64"),
        (with("steps", json!(u64::MAX)), 422, "64"),
        (with("method", json!("rk5")), 422, "rk5"),
        (with("class", json!(3)), 422, "3 classes"),
        (with("class", json!("zebra")), 422, "zebra"),
        (with("class", json!(-1)), 422, "class"),
        (with("sead", json!(1)), 422, "sead"),
    ];
    for (asked, status, reason) in cases {
        let answer = post(&server, "/api/sample", &asked);
        assert_eq!(answer.status, status, "{asked}: {}", answer.text());
        let error = answer.json();
        let message = error["error"]["message"].as_str().unwrap();
        assert!(message.contains(reason), "{asked}: {message}");
    }
    let named = post(&server, "/api/sample", &with("class", json!("B"))).json();
    assert_eq!(named["samples"][0]["class_name"], "b");
}

/// Bytes of a request, and the statuses that refuse it.
type Attack = (String, &'static [u16]);

const BODY: &str = r#"{"model":"cloud","seeds":[1]}"#;

/// A request for a sample with these headers.
fn sample(headers: &str) -> String {
    format!("POST /api/sample HTTP/1.1\r\n{headers}\r\n{BODY}")
}

fn json_headers(length: usize) -> String {
    format!("Content-Type: application/json\r\nContent-Length: {length}\r\n")
}

/// Names that were made to mean this machine.
fn other_names(good: &str) -> Vec<Attack> {
    let json = json_headers(BODY.len());
    let names = [
        "evil.example",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "0.0.0.0",
        "10.0.0.1",
        "127.0.0.1",
        "localhost",
    ];
    let of_name = |name| -> [Attack; 2] {
        [
            (sample(&format!("Host: {name}\r\n{json}")), &[421]),
            (
                format!("GET /api/catalogue HTTP/1.1\r\nHost: {name}:1\r\n\r\n"),
                &[421],
            ),
        ]
    };
    let mut attacks: Vec<Attack> = names.into_iter().flat_map(of_name).collect();
    attacks.push((sample(&json), &[400, 421]));
    attacks.push((
        sample(&format!("{good}Host: evil.example\r\n{json}")),
        &[400, 421],
    ));
    attacks
}

/// Pages of other origins, and what such a page may send without being asked about first.
fn other_pages(good: &str) -> Vec<Attack> {
    let json = json_headers(BODY.len());
    let origins = [
        "http://evil.example",
        "null",
        "file://",
        "https://localhost",
        "http://127.0.0.1:1",
        "chrome-extension://x",
        "http://",
    ];
    let kinds = [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data",
        "application/jsonp",
        "",
    ];
    let of_origin =
        |origin| -> Attack { (sample(&format!("{good}Origin: {origin}\r\n{json}")), &[403]) };
    let of_kind = |kind| -> Attack {
        let length = BODY.len();
        (
            sample(&format!(
                "{good}Content-Type: {kind}\r\nContent-Length: {length}\r\n"
            )),
            &[415],
        )
    };
    origins
        .into_iter()
        .map(of_origin)
        .chain(kinds.into_iter().map(of_kind))
        .collect()
}

/// Files of this machine.
fn files(good: &str) -> Vec<Attack> {
    let paths = [
        "/../../etc/passwd",
        "/..%2f..%2fetc/passwd",
        "/api/runs/..%2f..%2fetc%2fpasswd",
        "/api/runs/%2e%2e/metrics",
        "/api/runs//etc/passwd",
        "/api/runs/cloud/samples/..%2f..%2fmodel.safetensors",
        "/api/runs/cloud/samples/1.png",
        "/model.safetensors",
        "/.git/config",
        "/api/runs/cloud%00/data",
    ];
    let of_path = |path| -> Attack { (format!("GET {path} HTTP/1.1\r\n{good}\r\n"), &[400, 404]) };
    paths.into_iter().map(of_path).collect()
}

/// More than there may be, and what is no HTTP.
fn too_much(good: &str) -> Vec<Attack> {
    let (long, deep) = ("x".repeat(20_000), "[".repeat(60_000));
    let json = json_headers(deep.len());
    vec![
        (format!("GET / HTTP/1.1\r\n{good}X: {long}\r\n\r\n"), &[431]),
        (format!("GET /{long} HTTP/1.1\r\n{good}\r\n"), &[414, 431]),
        (
            format!("GET / HTTP/1.1\r\n{good}{}\r\n", "A: b\r\n".repeat(100)),
            &[400, 431],
        ),
        (
            sample(&format!("{good}{}", json_headers(99_999_999_999))),
            &[413],
        ),
        (
            format!("POST /api/sample HTTP/1.1\r\n{good}{json}\r\n{deep}"),
            &[400, 422],
        ),
        (format!("TRACE / HTTP/1.1\r\n{good}\r\n"), &[405]),
        (format!("DELETE /api/sample HTTP/1.1\r\n{good}\r\n"), &[405]),
        ("GET / HTTP/1.1\r\nHost : x\r\n\r\n".to_owned(), &[400]),
        (
            sample(&format!(
                "{good}Transfer-Encoding: chunked\r\n{}",
                json_headers(5)
            )),
            &[400],
        ),
    ]
}

/// Requests that a page of somebody else, or somebody who is not a browser at all, could send.
#[test]
fn forty_attacks_are_refused() {
    let server = Running::start(Limits::default());
    let good = format!("Host: {}\r\n", server.address);
    let attacks = [
        other_names(&good),
        other_pages(&good),
        files(&good),
        too_much(&good),
    ]
    .concat();
    assert!(attacks.len() >= 40, "{}", attacks.len());
    for (attack, expected) in &attacks {
        let answer = request(&server, attack.as_bytes());
        let (shown, text) = (attack.get(..100).unwrap_or(attack), answer.text());
        assert!(
            expected.contains(&answer.status),
            "{shown:?}: {} {text}",
            answer.status
        );
    }
    assert_eq!(get(&server, "/healthz").status, 200);
}

#[test]
fn with_a_token_the_api_needs_it_and_the_page_does_not() {
    let token = "0123456789abcdef";
    let server = Running::start_with(Limits::default(), Some(token));
    assert_eq!(get(&server, "/").status, 200);
    let refused = get(&server, "/api/catalogue");
    assert_eq!(refused.status, 401);
    assert!(!refused.text().contains(token));
    let host = server.address;
    for (sent, status) in [
        (token, 200),
        ("0123456789abcdeF", 401),
        ("0123456789abcdef0", 401),
        ("", 401),
    ] {
        let text = format!(
            "GET /api/catalogue HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {sent}\r\nConnection: close\r\n\r\n"
        );
        assert_eq!(request(&server, text.as_bytes()).status, status, "{sent}");
    }
}

#[test]
fn the_queue_is_bounded_and_what_is_beyond_it_is_told_to_come_again() {
    let limits = Limits {
        queue: 2,
        ..Limits::default()
    };
    let server = Running::start(limits);
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let asked: Vec<_> = (0..40).map(|seed| {
            let server = &server;
            // Different numbers of steps cannot share evaluations.
            let asked = json!({"model": "cloud", "seeds": [seed], "steps": 20 + seed, "method": "jump"});
            scope.spawn(move || {
                let answer = post(server, "/api/sample", &asked);
                assert!(answer.status == 200 || answer.head.to_lowercase().contains("retry-after: 1"), "{}", answer.head);
                answer.status
            })
        }).collect();
        asked
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    assert!(
        statuses.iter().all(|status| [200, 503].contains(status)),
        "{statuses:?}"
    );
    assert!(
        statuses.contains(&200) && statuses.contains(&503),
        "{statuses:?}"
    );
    assert_eq!(get(&server, "/healthz").status, 200);
}

#[test]
fn connections_are_bounded_and_slow_ones_are_closed() {
    let limits = Limits {
        connections: 8,
        header_time: Duration::from_millis(400),
        ..Limits::default()
    };
    let server = Running::start(limits);
    let mut slow: Vec<TcpStream> = (0..8)
        .map(|_| {
            let mut stream = TcpStream::connect(server.address).unwrap();
            stream.write_all(b"GET / HTTP/1.1\r\nHo").unwrap();
            stream
        })
        .collect();
    let start = Instant::now();
    let mut refused = 0;
    loop {
        match get(&server, "/healthz").status {
            200 => break,
            status => assert_eq!(status, 503),
        }
        refused += 1;
        assert!(
            start.elapsed() < Duration::from_secs(20),
            "slow connections are kept"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(
        refused > 0,
        "eight connections were open, and a ninth was accepted"
    );
    let mut rest = Vec::new();
    slow[0]
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let _ = slow[0].read_to_end(&mut rest);
    assert!(start.elapsed() < Duration::from_secs(20));
}

#[test]
fn every_route_of_the_description_is_there_and_every_schema_too() {
    let server = Running::start(Limits::default());
    let description = get(&server, "/openapi.json").json();
    for (path, methods) in description["paths"].as_object().unwrap() {
        let path = path.replace("{run}", "cloud").replace("{step}", "3");
        for method in methods.as_object().unwrap().keys() {
            let text = format!(
                "{} {path} HTTP/1.1\r\nHost: {}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
                method.to_uppercase(),
                server.address
            );
            let answer = request(&server, text.as_bytes());
            assert!(
                ![404, 405].contains(&answer.status) || path.contains("/runs/"),
                "{method} {path}: {}",
                answer.status
            );
        }
    }
    let text = description.to_string();
    let known = &description["components"]["schemas"];
    for reference in text.split("#/components/schemas/").skip(1) {
        let name = reference.split('"').next().unwrap();
        assert!(known.get(name).is_some(), "{name}");
    }
}

#[test]
fn the_page_loads_nothing_from_elsewhere() {
    let server = Running::start(Limits::default());
    let page = get(&server, "/");
    assert!(
        page.head
            .to_lowercase()
            .contains("content-security-policy: default-src 'none'"),
        "{}",
        page.head
    );
    let text = page.text();
    assert!(
        !text.contains("http://") && !text.contains("https://") && !text.contains("style="),
        "{text}"
    );
    for part in text
        .split(['"'])
        .filter(|part| part.ends_with(".js") || part.ends_with(".css"))
    {
        assert_eq!(get(&server, part).status, 200, "{part}");
    }
}

#[test]
fn what_was_asked_is_answered_before_the_server_ends() {
    let mut server = Running::start(Limits::default());
    let address = server.address;
    let asked =
        json!({"model": "cloud", "seeds": (0..64).collect::<Vec<u64>>(), "steps": 64}).to_string();
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "POST /api/sample HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{asked}", asked.len()).unwrap();
    // The request is being worked on when the server is told to stop.
    while !get(&server, "/metrics")
        .text()
        .contains("meanflow_jobs_total 1")
    {
        std::thread::sleep(Duration::from_millis(5));
    }
    server.stop();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer:.80}");
    server.join();
    assert!(TcpStream::connect(address).is_err());
}
