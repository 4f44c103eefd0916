//! libtorch out of the official zip archive, for machines without pip.

use super::pins::ARCHIVE;
use super::platform::Platform;
use super::{install, layout, unpack, verify};
use crate::{files, progress};
use anyhow::{Context, Result, bail, ensure};
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::time::Duration;

/// No archive of libtorch for the CPU comes near this; a server that sends more is not sending libtorch.
const MOST: u64 = 2 << 30;

/// Bytes to have free for it.
pub(crate) const ROOM: u64 = 1 << 30;

/// Fetches the archive and unpacks it into `folder`. It is not pinned: its SHA-256 is printed, to be compared or pinned.
pub(crate) fn build(folder: &Path, downloads: &Path) -> Result<()> {
    let file = downloads.join(format!("partial-{}.zip", std::process::id()));
    let outcome = fetch(ARCHIVE, &file, MOST).and_then(|bytes| {
        eprintln!(
            "{ARCHIVE}\n  {bytes} bytes, sha256 {}",
            verify::sha256(&file)?
        );
        eprintln!("  this file is not pinned: used because it was asked for by name");
        unpack::unpack(&file, folder, &layout::from_archive)
    });
    files::remove(&file)?;
    ensure!(outcome? > 0, "the archive holds nothing of libtorch");
    install::require_libraries(folder, Platform::host().unwrap_or(Platform::LinuxX86_64))
}

/// Downloads `address` to `file`, at most `most` bytes; answers how many. What the server announced must arrive in full.
fn fetch(address: &str, file: &Path, most: u64) -> Result<u64> {
    let context = || format!("cannot fetch {address}");
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .timeout_connect(Some(Duration::from_secs(30)))
        .timeout_recv_response(Some(Duration::from_secs(60)))
        .build()
        .into();
    let mut response = agent.get(address).call().with_context(context)?;
    let announced = response.body().content_length();
    let progress = progress::bytes("fetching the archive", announced.unwrap_or(0));
    let mut output =
        File::create(file).with_context(|| format!("cannot write {}", file.display()))?;
    let body = progress.wrap_read(response.body_mut().as_reader());
    // One byte more than allowed is enough to see that there is more.
    let total = io::copy(&mut body.take(most + 1), &mut output).with_context(context)?;
    ensure!(total <= most, "{address} sends more than {most} bytes");
    match announced {
        Some(bytes) if bytes != total => bail!("{address}: expected {bytes} bytes, got {total}"),
        _ => Ok(total),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::io::Write;
    use std::net::TcpListener;

    /// Serves one request with this answer; gives its address.
    fn serve(answer: String) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}/file.zip", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 4096];
            let _ = stream.read(&mut request);
            let _ = stream.write_all(answer.as_bytes());
        });
        address
    }

    fn fetched(answer: &str) -> Result<Vec<u8>> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fetch(&serve(answer.to_owned()), &file, 100)?;
        Ok(fs::read(file).unwrap())
    }

    #[test]
    fn the_body_arrives() {
        let body = fetched("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello").unwrap();
        assert_eq!(body, b"hello");
    }

    /// Whatever a server may do but send the file.
    #[test]
    fn thirty_answers_that_are_not_the_file_are_refused() {
        let statuses = [
            400, 401, 403, 404, 407, 408, 410, 418, 429, 451, 500, 501, 502, 503, 504, 507,
        ];
        let of_status = |code: u16| format!("HTTP/1.1 {code} No\r\ncontent-length: 5\r\n\r\nhello");
        let mut answers: Vec<String> = statuses.into_iter().map(of_status).collect();
        let short = |bytes: usize| {
            format!(
                "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{}",
                "x".repeat(bytes)
            )
        };
        answers.extend([0, 1, 50, 99].map(short));
        for bytes in [101, 150, 70_000] {
            let body = "x".repeat(bytes);
            answers.push(format!(
                "HTTP/1.1 200 OK\r\ncontent-length: {bytes}\r\n\r\n{body}"
            ));
            answers.push(format!(
                "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{body}"
            ));
        }
        let broken = [
            "",
            "hello",
            "HTTP/1.1 200",
            "HTTP/1.1 200 OK\r\ncontent-length: -5\r\n\r\nhello",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n64\r\nhello",
            "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n",
        ];
        answers.extend(broken.map(str::to_owned));
        assert!(answers.len() >= 30, "{}", answers.len());
        for answer in answers {
            assert!(fetched(&answer).is_err(), "{:?}", answer.get(..60));
        }
    }

    #[test]
    fn more_than_allowed_is_refused() {
        let endless = "x".repeat(200);
        let error = fetched(&format!(
            "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{endless}"
        ));
        assert!(error.unwrap_err().to_string().contains("more than 100"));
    }
}
