//! `meanflow serve` under requests that are meant badly, and under too many of them.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use fastrand::Rng;

use super::runs::{Runs, kill};

/// Threads that send requests, each over one connection as long as the server keeps it.
const CLIENTS: usize = 24;
/// Connections that send a header slowly, for as long as the server lets them.
const SLOW: usize = 500;
/// Connections that are opened before any of them asks.
const AT_ONCE: usize = 1000;
/// Requests before memory is looked at, in rounds of which the largest counts: the allocator gives back more at one time than at another.
const WARM_UP: usize = 5_000;
const ROUNDS: usize = 3;
/// How much of memory may be gained after the warm-up.
const GROWTH: f64 = 0.05;
/// The slowest answer but one in a hundred to `/healthz`, beside all others.
const HEALTH: Duration = Duration::from_millis(50);

/// Sends so many requests, a third of them malformed, beside slow connections; then many at once.
pub(super) fn run(runs: &mut Runs, count: usize) -> Result<()> {
    let server = Server::start(runs)?;
    // The same, but shorter: what connections and threads need once they have then.
    let at_once = server.at_once()?;
    let mut before = 0;
    for _ in 0..ROUNDS {
        server.load(WARM_UP, &mut runs.random)?;
        before = server.memory()?.max(before);
    }
    let begun = Instant::now();
    let (answers, health) = server.load(count, &mut runs.random)?;
    let seconds = begun.elapsed().as_secs_f64();
    let after = server.memory()?;
    let growth = after as f64 / before as f64 - 1.0;
    ensure!(growth < GROWTH, "memory grew from {before} to {after} KiB");
    ensure!(
        health < HEALTH,
        "a hundredth of the answers of /healthz took more than {health:?}"
    );
    ensure!(
        at_once.good + at_once.refused > 0,
        "of {AT_ONCE} at once nobody was answered"
    );
    server.speed(runs, count / 10)?;
    server.end()?;
    println!(
        "server: {count} requests in {seconds:.0} s beside {SLOW} slow connections: {} answered, {} refused, {} closed; \
         99 of 100 answers of /healthz within {:.1} ms; memory {:+.1} %; {AT_ONCE} at once: {} answered, {} told to come \
         again, {} closed",
        answers.good,
        answers.refused,
        answers.closed,
        1e3 * health.as_secs_f64(),
        100.0 * growth,
        at_once.good,
        at_once.refused,
        at_once.closed
    );
    Ok(())
}

struct Server {
    child: Child,
    host: String,
}

/// How requests ended.
#[derive(Default)]
struct Answers {
    good: usize,
    refused: usize,
    closed: usize,
}

impl Server {
    fn start(runs: &Runs) -> Result<Self> {
        let mut child = Command::new(&runs.program)
            .arg("serve")
            .arg(runs.path("whole"))
            .args(["--bind", "127.0.0.1:0", "--threads", "1", "--json"])
            .env("OMP_WAIT_POLICY", "passive")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", runs.program.display()))?;
        let mut line = String::new();
        let stdout = child.stdout.take().context("it has a standard output")?;
        BufReader::new(stdout).read_line(&mut line)?;
        let host = line
            .split("http://")
            .nth(1)
            .and_then(|rest| rest.split('/').next());
        let host = host
            .with_context(|| format!("no address in {line:?}"))?
            .to_owned();
        Ok(Self { child, host })
    }

    /// Resident memory in KiB.
    fn memory(&self) -> Result<usize> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let number = line.and_then(|line| line.split_whitespace().next());
        number
            .and_then(|number| number.parse().ok())
            .context("no VmRSS")
    }

    /// So many requests beside slow connections, and how long `/healthz` takes meanwhile.
    fn load(&self, count: usize, random: &mut Rng) -> Result<(Answers, Duration)> {
        let is_done = AtomicBool::new(false);
        thread::scope(|scope| {
            let slow = scope.spawn(|| self.slow(&is_done));
            let health = scope.spawn(|| self.health(&is_done));
            let answers = self.mixed(count, random);
            // The other two go on until they are told.
            is_done.store(true, Ordering::Relaxed);
            slow.join().expect("the slow ones do not panic");
            let health = health.join().expect("asking does not panic");
            Ok((answers?, health?))
        })
    }

    /// So many requests, a third of them malformed.
    fn mixed(&self, count: usize, random: &mut Rng) -> Result<Answers> {
        let left = AtomicUsize::new(count);
        let take = |left: usize| left.checked_sub(1);
        let more = || left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
        let more = &|| more().is_ok();
        thread::scope(|scope| {
            let clients: Vec<_> = (0..CLIENTS)
                .map(|_| random.fork())
                .map(|random| scope.spawn(move || self.client(random, more)))
                .collect();
            let mut all = Answers::default();
            for client in clients {
                let answers = client.join().map_err(|_| anyhow!("a client panicked"))??;
                all.good += answers.good;
                all.refused += answers.refused;
                all.closed += answers.closed;
            }
            Ok(all)
        })
    }

    fn client(&self, mut random: Rng, more: impl Fn() -> bool) -> Result<Answers> {
        let (mut answers, mut stream) = (Answers::default(), None);
        while more() {
            let (request, is_good) = self.request(&mut random);
            let connect = || TcpStream::connect(&self.host).ok();
            let Some(mut connection) = stream.take().or_else(connect) else {
                answers.closed += 1;
                continue;
            };
            connection.set_read_timeout(Some(Duration::from_secs(90)))?;
            let sent = connection.write_all(&request);
            if !is_good {
                // Whoever sends half of a request does not wait for its answer.
                let _ = connection.shutdown(std::net::Shutdown::Write);
            }
            match sent.ok().and_then(|()| answer(&mut connection)) {
                Some(200) if is_good => {
                    answers.good += 1;
                    stream = Some(connection);
                }
                Some(200) => answers.good += 1,
                Some(status) => {
                    ensure!(
                        (400..600).contains(&status) && status != 500,
                        "status {status} for {:?}",
                        String::from_utf8_lossy(&request)
                    );
                    answers.refused += 1;
                }
                None => answers.closed += 1,
            }
        }
        Ok(answers)
    }

    /// A request, and whether it is as it should be.
    fn request(&self, random: &mut Rng) -> (Vec<u8>, bool) {
        let body = ask(random.u64(..1 << 40));
        let mut request = self.post(&body);
        if random.u8(..3) > 0 {
            return (request, true);
        }
        match random.u8(..6) {
            0 => request = self.post(&body[..random.usize(..body.len())]),
            1 => {
                let place = random.usize(..request.len());
                request[place] ^= 1 << random.u8(..8);
            }
            2 => request.truncate(random.usize(..request.len())),
            3 => {
                request = vec![0; random.usize(..2000)];
                random.fill(&mut request);
            }
            4 => request = self.post(&"[".repeat(random.usize(..70_000))),
            _ => {
                let nines = "9".repeat(random.usize(1..=50));
                request = self.post(&body.replace('[', &format!("[{nines},")));
            }
        }
        (request, false)
    }

    fn post(&self, body: &str) -> Vec<u8> {
        let (host, length) = (&self.host, body.len());
        format!(
            "POST /api/sample HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        )
        .into_bytes()
    }

    /// Keeps connections open that send a byte now and then.
    fn slow(&self, is_done: &AtomicBool) {
        let mut open: Vec<TcpStream> = Vec::new();
        while !is_done.load(Ordering::Relaxed) {
            open.retain_mut(|stream| stream.write_all(b"x").is_ok());
            let missing = SLOW - open.len();
            open.extend((0..missing).filter_map(|_| {
                let mut stream = TcpStream::connect(&self.host).ok()?;
                stream.write_all(b"GET / HTTP/1.1\r\nHost").ok()?;
                Some(stream)
            }));
            thread::sleep(Duration::from_millis(200));
        }
    }

    /// The slowest answer of `/healthz` but one in a hundred.
    fn health(&self, is_done: &AtomicBool) -> Result<Duration> {
        let mut times = Vec::new();
        while !is_done.load(Ordering::Relaxed) {
            let begun = Instant::now();
            let mut stream = TcpStream::connect(&self.host)?;
            let request = format!(
                "GET /healthz HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
                self.host
            );
            stream.write_all(request.as_bytes())?;
            let status = answer(&mut stream);
            ensure!(status == Some(200), "/healthz: {status:?}");
            times.push(begun.elapsed());
            thread::sleep(Duration::from_millis(10));
        }
        times.sort();
        let place = times.len() * 99 / 100;
        times.get(place).copied().context("never asked")
    }

    /// Draws so many pictures, one a request: by one client, by many at once, and by a process each, of which a few are enough.
    fn speed(&self, runs: &Runs, count: usize) -> Result<()> {
        const PROCESSES: usize = 20;
        let drawn = |clients: usize, count: usize| -> Result<f64> {
            let begun = Instant::now();
            let each = count / clients;
            thread::scope(|scope| {
                let all: Vec<_> = (0..clients)
                    .map(|client| scope.spawn(move || self.draw(client, each)))
                    .collect();
                all.into_iter()
                    .try_for_each(|one| one.join().expect("drawing does not panic"))
            })?;
            Ok((each * clients) as f64 / begun.elapsed().as_secs_f64())
        };
        let (alone, together) = (drawn(1, count / 10)?, drawn(64, count)?);
        let begun = Instant::now();
        for seed in 0..PROCESSES {
            let out = runs.folder.join("one.png");
            runs.sample(&seed.to_string(), &out)?;
            fs::remove_file(out)?;
        }
        let processes = PROCESSES as f64 / begun.elapsed().as_secs_f64();
        println!(
            "pictures a second, one a request: {alone:.0} by one client, {together:.0} by 64 at once, who share evaluations; {processes:.1} by \
             `meanflow sample`, a process each"
        );
        Ok(())
    }

    /// Draws pictures one after the other.
    fn draw(&self, client: usize, count: usize) -> Result<()> {
        let mut stream = TcpStream::connect(&self.host)?;
        for place in 0..count {
            let seed = client * count + place;
            stream.write_all(&self.post(&ask(seed as u64)))?;
            let status = answer(&mut stream);
            ensure!(status == Some(200), "status {status:?} for seed {seed}");
        }
        Ok(())
    }

    /// Opens many connections, then asks on all of them: how many are answered, told to come again, and closed.
    fn at_once(&self) -> Result<Answers> {
        let connect = |_| TcpStream::connect(&self.host).ok();
        let mut streams: Vec<TcpStream> = (0..AT_ONCE).filter_map(connect).collect();
        let request = self.post(r#"{"model":"run","seeds":[1]}"#);
        streams.retain_mut(|stream| stream.write_all(&request).is_ok());
        let mut answers = Answers::default();
        for mut stream in streams {
            stream.set_read_timeout(Some(Duration::from_secs(90)))?;
            match answer(&mut stream) {
                Some(200) => answers.good += 1,
                Some(429 | 503) => answers.refused += 1,
                _ => {}
            }
        }
        answers.closed = AT_ONCE - answers.good - answers.refused;
        Ok(answers)
    }

    /// Asks it to end, which it does at once and well, having said nothing of a panic.
    fn end(mut self) -> Result<()> {
        kill("TERM", self.child.id())?;
        let mut said = String::new();
        let mut stderr = self.child.stderr.take().context("no standard error")?;
        stderr.read_to_string(&mut said)?;
        let status = self.child.wait()?;
        ensure!(
            status.success() && !said.contains("panicked"),
            "{status}: {said}"
        );
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // After an error it is still there.
        let _ = self.child.kill();
    }
}

/// What draws a picture of this seed.
fn ask(seed: u64) -> String {
    format!(r#"{{"model":"run","seeds":[{seed}],"class":"balanced"}}"#)
}

/// The status of an answer whose body has been read; none where the connection was closed before.
fn answer(stream: &mut TcpStream) -> Option<u16> {
    let (mut got, mut buffer) = (Vec::new(), [0; 16384]);
    loop {
        if let Some(end) = got.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&got[..end]).to_lowercase();
            let length = head.lines().find_map(|line| {
                line.strip_prefix("content-length:")?
                    .trim()
                    .parse::<usize>()
                    .ok()
            });
            if got.len() >= end + 4 + length.unwrap_or(0) {
                return head.split(' ').nth(1)?.parse().ok();
            }
        }
        match stream.read(&mut buffer) {
            Ok(count) if count > 0 => got.extend_from_slice(&buffer[..count]),
            _ => return None,
        }
    }
}
