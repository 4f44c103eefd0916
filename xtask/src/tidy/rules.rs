//! What a Rust file must keep to.

use std::collections::BTreeSet;

/// Longest file, in lines.
const FILE: usize = 700;

/// The only file that lifts the compiler's ban on `unsafe`: the crate that talks to C++.
const UNSAFE: &str = "crates/meanflow-libtorch/src/lib.rs";
/// How a file would lift it. Split, so that this file keeps its own rule.
const LIFTED: &str = concat!("allow(unsafe", "_code)");

/// Words that mark unfinished work. Split, so that this file keeps its own rule.
const UNFINISHED: [&str; 3] = [
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("XX", "X"),
];

/// Ways to write a file that is not whole or not synced.
const WRITES: [&str; 4] = [
    "fs::write(",
    "fs::rename(",
    "File::create(",
    "File::create_new(",
];

/// Sources that may use them, with the reason.
const WRITERS: &[(&str, &str)] = &[
    ("crates/meanflow-files/", "writes whatever is kept"),
    (
        "crates/meanflow-libtorch/src/memory.rs",
        "tells the kernel something",
    ),
    (
        "crates/meanflow-goldens/src/device_check/goldens.rs",
        "fills a temporary folder",
    ),
    ("crates/meanflow-train/src/crash_states", "tests"),
    ("crates/meanflow-train/src/tensorboard/", "appends to a log"),
    (
        "xtask/src/libtorch/",
        "fills a folder that counts when its stamp is synced and it gets its name; a download is compared with its hash",
    ),
    ("xtask/src/soak/", "damages files on purpose"),
    ("xtask/src/tidy/", "names them"),
];

/// Every offence of a file: line and what is wrong.
pub(super) fn check(name: &str, text: &str, equations: &BTreeSet<String>) -> Vec<(usize, String)> {
    let mut offences = opening(text);
    offences.extend(file_length(text));
    offences.extend(words(name, text));
    offences.extend(writes(name, text));
    offences.extend(citations(text, equations));
    offences.sort();
    offences
}

fn opening(text: &str) -> Vec<(usize, String)> {
    if text.starts_with("//!") {
        return Vec::new();
    }
    vec![(1, "a file opens with `//!`: what it is for".to_owned())]
}

fn file_length(text: &str) -> Option<(usize, String)> {
    let lines = text.lines().count();
    (lines > FILE).then(|| (FILE, format!("{lines} lines, at most {FILE}: split it")))
}

fn words(name: &str, text: &str) -> Vec<(usize, String)> {
    let mut offences = find(text, &UNFINISHED.map(|word| (word, "unfinished work")));
    if name != UNSAFE {
        let reason = "unsafe code belongs into meanflow-libtorch";
        offences.extend(find(text, &[(LIFTED, reason)]));
    }
    offences
}

/// Writes of a library or the command, outside of their tests, that meanflow-files does not make.
fn writes(name: &str, text: &str) -> Vec<(usize, String)> {
    let may = WRITERS.iter().any(|(writer, _)| name.starts_with(writer));
    let is_kept = ["crates/", "xtask/", "benches/"]
        .iter()
        .any(|part| name.starts_with(part));
    if may || !is_kept || !name.contains("/src/") {
        return Vec::new();
    }
    let end = text.find("#[cfg(test)]").unwrap_or(text.len());
    let reason = "files that are kept are written by meanflow-files";
    let mut offences = find(&text[..end], &WRITES.map(|call| (call, reason)));
    let lines: Vec<&str> = text.lines().collect();
    offences.retain(|(line, _)| !lines[line - 1].trim_start().starts_with("//"));
    offences
}

/// Every line that holds one of the words, starting where a word starts.
fn find(text: &str, words: &[(&str, &str)]) -> Vec<(usize, String)> {
    let mut offences = Vec::new();
    for (index, line) in text.lines().enumerate() {
        for (word, reason) in words {
            let starts = |at: usize| {
                let before = line[..at].chars().next_back();
                !before.is_some_and(|c| c.is_alphanumeric() || c == '_')
            };
            if line.match_indices(word).any(|(at, _)| starts(at)) {
                offences.push((index + 1, format!("`{word}`: {reason}")));
            }
        }
    }
    offences
}

/// Every `(M7)` or `(M11–M15)` that the derivation does not have.
fn citations(text: &str, equations: &BTreeSet<String>) -> Vec<(usize, String)> {
    let mut offences = Vec::new();
    for (index, line) in text.lines().enumerate() {
        for cited in cited(line) {
            if !equations.contains(cited) {
                let what = format!("({cited}) is not in docs/src/derivation.md");
                offences.push((index + 1, what));
            }
        }
    }
    offences
}

/// The numbers a line cites: words `M…` of digits that follow a parenthesis, in the same parentheses.
fn cited(line: &str) -> Vec<&str> {
    let inside = line.split('(').skip(1);
    let inside = inside.map(|rest| rest.split(')').next().unwrap_or_default());
    let groups = inside.filter(|group| group.starts_with('M'));
    let words = groups.flat_map(|group| group.split(|c: char| !c.is_ascii_alphanumeric()));
    let number = |word: &&str| {
        let digits = word.strip_prefix('M').unwrap_or_default();
        !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
    };
    words.filter(number).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offences(name: &str, text: &str) -> Vec<String> {
        let equations = ["M1", "M2"].map(str::to_owned).into();
        let found = check(name, text, &equations);
        found
            .iter()
            .map(|(line, what)| format!("{line}: {what}"))
            .collect()
    }

    #[test]
    fn a_tidy_file_has_no_offence() {
        let text = "//! What it is.\n\n/// By (M1) and (M1–M2).\npub fn f(x: [u8; 2]) -> u8 {\n    x[0]\n}\n";
        assert_eq!(offences("crates/a/src/lib.rs", text), [""; 0]);
    }

    #[test]
    fn every_rule_can_be_broken() {
        let file = "x\n".repeat(FILE);
        let marked = format!("// {} later", UNFINISHED[0]);
        for (line, expected) in [
            (marked.as_str(), "unfinished"),
            (&format!("#![{LIFTED}]"), "libtorch"),
            ("    fs::write(path, text)?;", "meanflow-files"),
            ("/// See (M1, M3).", "(M3)"),
            (&file, "at most 700"),
        ] {
            let found = offences("crates/a/src/lib.rs", &format!("//! A.\n{line}\n"));
            assert_eq!(found.len(), 1, "{line}: {found:?}");
            assert!(found[0].contains(expected), "{found:?}");
        }
        assert!(offences("a.rs", "fn f() {}\n")[0].contains("opens with"));
        let writes = "//! A.\nfs::write(path, text)?;\n";
        assert_eq!(offences("xtask/src/a.rs", writes).len(), 1);
        assert_eq!(offences("xtask/src/soak/a.rs", writes), [""; 0]);
    }

    #[test]
    fn comments_and_longer_names_are_no_calls() {
        let text = "//! A.\n/// As fs::write(path, text) does.\nmy_fs::write(path, text);\n";
        assert_eq!(offences("xtask/src/a.rs", text), [""; 0]);
    }

    #[test]
    fn the_border_to_libtorch_may_be_unsafe() {
        let text = format!("//! A.\n#![{LIFTED}]\n");
        assert_eq!(offences(UNSAFE, &text), [""; 0]);
    }
}
