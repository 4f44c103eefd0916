//! Levels and forms of what is said on standard error, and the log of a run.

use std::env;
use std::fs::{File, OpenOptions};
use std::io::{IsTerminal, Write, stderr};
use std::path::Path;
use std::sync::{LazyLock, Mutex, OnceLock, PoisonError};
use std::time::SystemTime;

use clap::ValueEnum;
use humantime::format_rfc3339_seconds;
use serde_json::{Map, Value, json};

/// How lines on standard error look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One object a line, with time, level and message; of progress its numbers, too.
    Json,
}

/// Whether standard error is a terminal that bars may be drawn on.
pub(crate) fn is_drawn() -> bool {
    stderr().is_terminal() && format() == LogFormat::Text
}

/// How much a line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    Error,
    Warn,
    Info,
    Debug,
}

impl Level {
    /// The level of a text by its first word.
    pub(crate) fn of(text: &str) -> Self {
        match text.split_once(": ") {
            Some(("error", _)) => Self::Error,
            Some(("warning", _)) => Self::Warn,
            _ => Self::Info,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
        }
    }

    /// The level that a filter such as `warn` or `meanflow=debug,other=error` asks for: the last one that is not of another
    /// program.
    fn asked(filter: &str) -> Option<Self> {
        let mut ours = filter
            .split(',')
            .filter_map(|part| match part.split_once('=') {
                Some((target, level)) => target.starts_with("meanflow").then_some(level),
                None => Some(part),
            });
        let level = ours.next_back()?.trim().to_lowercase();
        Some(match level.as_str() {
            "off" | "error" => Self::Error,
            "warn" => Self::Warn,
            "debug" | "trace" => Self::Debug,
            _ => Self::Info,
        })
    }
}

static FORMAT: OnceLock<LogFormat> = OnceLock::new();

/// Chooses the form, once, before anything is said.
pub(crate) fn choose(format: LogFormat) {
    let _ = FORMAT.set(format);
}

pub(crate) fn format() -> LogFormat {
    FORMAT.get().copied().unwrap_or_default()
}

/// The least important level that is said, by `RUST_LOG`.
pub(crate) fn most() -> Level {
    static MOST: LazyLock<Level> = LazyLock::new(|| {
        let filter = env::var("RUST_LOG").unwrap_or_default();
        Level::asked(&filter).unwrap_or(Level::Info)
    });
    *MOST
}

/// Now, in UTC.
pub(crate) fn time() -> String {
    format_rfc3339_seconds(SystemTime::now()).to_string()
}

/// A line of JSON.
pub(crate) fn line(level: Level, message: &str, fields: Map<String, Value>) -> String {
    let mut line = Map::from_iter([
        ("time".to_owned(), json!(time())),
        ("level".to_owned(), json!(level.name())),
        ("message".to_owned(), json!(message)),
    ]);
    line.extend(fields);
    Value::Object(line).to_string()
}

/// Where lines go beside standard error.
enum Log {
    /// Nowhere.
    None,
    /// Into memory, until there is a run directory.
    Kept(Vec<String>),
    File(File),
}

static LOG: Mutex<Log> = Mutex::new(Log::None);

/// From now on lines are kept for a log that does not exist yet.
pub(crate) fn keep_lines() {
    *lock() = Log::Kept(Vec::new());
}

/// Appends the lines that were kept, and those to come, to a file. A log that cannot be written is not worth a run.
pub(crate) fn log_to(path: &Path) {
    let mut log = lock();
    let file = OpenOptions::new().create(true).append(true).open(path);
    let (Ok(mut file), Log::Kept(lines)) = (file, &*log) else {
        *log = Log::None;
        return;
    };
    for line in lines {
        let _ = writeln!(file, "{line}");
    }
    *log = Log::File(file);
}

/// A line of the log.
pub(crate) fn log(level: Level, text: &str) {
    let line = format!("{} {:<5} {text}", time(), level.name());
    match &mut *lock() {
        Log::None => {}
        Log::Kept(lines) => lines.push(line),
        Log::File(file) => drop(writeln!(file, "{line}")),
    }
}

fn lock() -> std::sync::MutexGuard<'static, Log> {
    LOG.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_names_a_level_for_all_or_for_this_program() {
        for (filter, level) in [
            ("", Some(Level::Info)),
            ("warn", Some(Level::Warn)),
            ("ERROR", Some(Level::Error)),
            ("meanflow=debug,hyper=error", Some(Level::Debug)),
            ("hyper=error", None),
        ] {
            assert_eq!(Level::asked(filter), level, "{filter}");
        }
    }

    #[test]
    fn a_line_of_json_says_what_it_is() {
        let fields = Map::from_iter([("step".to_owned(), json!(3))]);
        let line: Value =
            serde_json::from_str(&line(Level::of("warning: \"x\""), "a\nb", fields)).unwrap();
        assert_eq!(
            (&line["level"], &line["message"], &line["step"]),
            (&"warn".into(), &"a\nb".into(), &3.into())
        );
    }
}
