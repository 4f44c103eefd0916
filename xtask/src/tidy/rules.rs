//! What a Rust file must keep to.

use super::lexer;
use std::collections::BTreeSet;

/// Longest file, in lines.
const FILE: usize = 700;
/// Longest function, in lines from `fn` to its closing brace.
const FUNCTION: usize = 50;

/// Files that may be longer, with the reason.
const LONG_FILES: &[(&str, &str)] = &[];

/// Functions that may be longer (`file::function`), with the reason.
const LONG_FUNCTIONS: &[(&str, &str)] = &[];

/// The only crate with `unsafe` code: what talks to C++.
const UNSAFE: &str = "crates/meanflow-libtorch/src";

/// Words that mark unfinished work. Split, so that this file keeps its own rule.
const UNFINISHED: [&str; 3] = [
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("XX", "X"),
];

/// Modules that have no place here, with the reason. Single functions are in `clippy.toml`, which cannot name a module.
const FORBIDDEN: &[(&str, &str)] = &[("vision::", "decodes pictures without limits")];

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
];

/// Every offence of a file: line and what is wrong.
pub(super) fn check(name: &str, text: &str, equations: &BTreeSet<String>) -> Vec<(usize, String)> {
    let code = lexer::code(text);
    let mut offences = opening(text);
    offences.extend(file_length(name, text));
    offences.extend(long_functions(name, &code));
    offences.extend(words(text));
    offences.extend(calls(name, &code));
    offences.extend(writes(name, &code));
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

fn file_length(name: &str, text: &str) -> Option<(usize, String)> {
    let lines = text.lines().count();
    let allowed = LONG_FILES.iter().any(|(file, _)| *file == name);
    (lines > FILE && !allowed).then(|| (FILE, format!("{lines} lines, at most {FILE}: split it")))
}

fn long_functions(name: &str, code: &str) -> Vec<(usize, String)> {
    let lines: Vec<&str> = code.lines().collect();
    let mut offences = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        let Some(function) = declared(line) else {
            continue;
        };
        let length = body_length(&lines[index..]);
        let full = format!("{name}::{function}");
        let allowed = LONG_FUNCTIONS.iter().any(|(allowed, _)| *allowed == full);
        if length > FUNCTION && !allowed {
            let what = format!("`{function}` has {length} lines, at most {FUNCTION}: split it");
            offences.push((index + 1, what));
        }
    }
    offences
}

/// The name of the function that a line declares.
fn declared(line: &str) -> Option<&str> {
    let at = line.find("fn ")?;
    let starts_word = line[..at]
        .chars()
        .next_back()
        .is_none_or(|c| c == ' ' || c == '(');
    let name = line[at + 3..]
        .split(|c: char| !c.is_alphanumeric() && c != '_')
        .next()?;
    (starts_word && !name.is_empty()).then_some(name)
}

/// Lines from a declaration to the end of its body; 1 for a declaration without body.
fn body_length(lines: &[&str]) -> usize {
    let (mut depth, mut nesting) = (0_i32, 0_i32);
    for (index, line) in lines.iter().enumerate() {
        for character in line.chars() {
            match character {
                '{' => depth += 1,
                '}' if depth == 1 => return index + 1,
                '}' => depth -= 1,
                // The semicolon of an array type in the signature ends nothing.
                '(' | '[' => nesting += 1,
                ')' | ']' => nesting -= 1,
                ';' if depth == 0 && nesting == 0 => return index + 1,
                _ => {}
            }
        }
    }
    lines.len()
}

fn words(text: &str) -> Vec<(usize, String)> {
    find(text, &UNFINISHED.map(|word| (word, "unfinished work")))
}

fn calls(name: &str, code: &str) -> Vec<(usize, String)> {
    let mut offences = find(code, FORBIDDEN);
    if !name.starts_with(UNSAFE) {
        let blocks = ["unsafe {", "unsafe fn", "unsafe impl", "unsafe extern"];
        let reason = "unsafe code belongs into meanflow-libtorch";
        offences.extend(find(code, &blocks.map(|block| (block, reason))));
    }
    offences
}

/// Writes of a library or the command, outside of their tests, that meanflow-files does not make.
fn writes(name: &str, code: &str) -> Vec<(usize, String)> {
    let may = WRITERS.iter().any(|(writer, _)| name.starts_with(writer));
    let is_kept = ["crates/", "xtask/", "benches/"]
        .iter()
        .any(|part| name.starts_with(part));
    if may || !is_kept || !name.contains("/src/") {
        return Vec::new();
    }
    let end = code.find("#[cfg(test)]").unwrap_or(code.len());
    find(
        &code[..end],
        &WRITES.map(|call| (call, "files that are kept are written by meanflow-files")),
    )
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
        let long = "    x();\n".repeat(FUNCTION);
        let file = "x\n".repeat(FILE);
        let marked = format!("// {} later", UNFINISHED[0]);
        for (line, expected) in [
            (marked.as_str(), "unfinished"),
            ("let x = vision::load(path);", "limits"),
            ("    unsafe { f() }", "libtorch"),
            ("    fs::write(path, text)?;", "meanflow-files"),
            ("/// See (M1, M3).", "(M3)"),
            (&format!("fn f() {{\n{long}}}"), "52 lines"),
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
    fn words_in_strings_and_longer_names_are_no_calls() {
        let text = "//! A.\nlet s = \"unsafe { vision::load }\";\nmy_vision::load();\n";
        assert_eq!(offences("a.rs", text), [""; 0]);
    }

    #[test]
    fn the_border_to_libtorch_may_be_unsafe() {
        let name = format!("{UNSAFE}/level.rs");
        assert_eq!(offences(&name, "//! A.\nunsafe { f() }\n"), [""; 0]);
    }
}
