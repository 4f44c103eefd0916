//! What torchrun and its like read of a process that failed: the file that `TORCHELASTIC_ERROR_FILE` names.

use std::env;
use std::path::Path;
use std::thread;
use std::time::{Duration, SystemTime};

use meanflow_data::write_bytes;
use serde_json::{Value, json};

/// The variable that names the file.
const FILE: &str = "TORCHELASTIC_ERROR_FILE";

/// How long a process that lost another one goes on, so that the other is found to have failed first, or it is ended itself.
const GRACE: Duration = Duration::from_secs(2);

/// Writes why this process failed, where the launcher wants to know.
pub(crate) fn write(message: &str) {
    let Some(path) = env::var_os(FILE) else {
        return;
    };
    // The failure itself is on standard error; that nobody else gets it changes nothing.
    let text = content(message, SystemTime::now()).to_string();
    let _ = write_bytes(Path::new(&path), text.as_bytes());
}

/// Of a process that lost another one nothing is written: the launcher takes the earliest of what it finds for the cause.
pub(crate) fn leave_to_the_cause() {
    if env::var_os(FILE).is_some() {
        thread::sleep(GRACE);
    }
}

/// As `torch.distributed.elastic.multiprocessing.errors` writes it.
fn content(message: &str, time: SystemTime) -> Value {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    let seconds = since.map_or(0, |since| since.as_secs());
    let more = json!({ "py_callstack": message, "timestamp": seconds.to_string() });
    json!({ "message": { "message": message, "extraInfo": more } })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_content_is_what_torch_reads() {
        let time = SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_900);
        let content = content("data: no such file", time);
        let message = &content["message"];
        assert_eq!(message["message"], "data: no such file");
        // A string of whole seconds, which torch makes an integer of.
        assert_eq!(message["extraInfo"]["timestamp"], "1700000000");
        assert!(message["extraInfo"]["py_callstack"].is_string());
    }
}
