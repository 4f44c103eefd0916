//! Rust source without its words: comments, strings and characters blanked, so that braces and calls can be counted.

/// The source with every byte of a comment, string or character literal replaced by a space; lines stay where they are.
pub(super) fn code(source: &str) -> String {
    let bytes = source.as_bytes();
    let mut output = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let length = literal(&bytes[at..], at.checked_sub(1).map(|before| bytes[before]));
        for byte in &mut output[at..at + length] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        at += length.max(1);
    }
    String::from_utf8_lossy(&output).into_owned()
}

/// Bytes of the comment or literal that starts here; 0: none does.
fn literal(rest: &[u8], before: Option<u8>) -> usize {
    match rest {
        [b'/', b'/', ..] => rest.iter().take_while(|&&byte| byte != b'\n').count(),
        [b'/', b'*', ..] => block_comment(rest),
        [b'"', ..] => quoted(rest, b'"'),
        [b'r' | b'b' | b'c', ..] if !before.is_some_and(is_word) => raw_string(rest),
        [b'\'', ..] => character(rest),
        _ => 0,
    }
}

/// Block comments nest.
fn block_comment(rest: &[u8]) -> usize {
    let (mut depth, mut at) = (0_u32, 0);
    while at < rest.len() {
        match &rest[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] if depth == 1 => return at + 2,
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
    }
    rest.len()
}

/// Up to the closing quote; a backslash takes the next byte with it.
fn quoted(rest: &[u8], quote: u8) -> usize {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            b'\\' => at += 2,
            byte if byte == quote => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

/// `r"…"`, `br##"…"##` and the like; 0 where it is but a name.
fn raw_string(rest: &[u8]) -> usize {
    let prefix = rest.iter().take_while(|byte| b"rbc".contains(byte)).count();
    let raw = rest[..prefix].contains(&b'r');
    let hashes = rest[prefix..]
        .iter()
        .take_while(|&&byte| byte == b'#')
        .count();
    let open = prefix + hashes;
    if !raw || rest.get(open) != Some(&b'"') {
        return 0;
    }
    let mut end = vec![b'"'];
    end.resize(1 + hashes, b'#');
    let body = &rest[open + 1..];
    let close = body.windows(end.len()).position(|window| window == end);
    close.map_or(rest.len(), |close| open + 1 + close + end.len())
}

/// `'x'`, `'\n'`, `'é'`; a lifetime (`'a`) is none.
fn character(rest: &[u8]) -> usize {
    match rest {
        [_, b'\\', ..] => quoted(rest, b'\''),
        _ => {
            let text = std::str::from_utf8(&rest[1..rest.len().min(6)]);
            let text = text.unwrap_or_else(|error| {
                std::str::from_utf8(&rest[1..1 + error.valid_up_to()]).unwrap_or_default()
            });
            let width = text.chars().next().map_or(0, char::len_utf8);
            let closes = rest.get(1 + width) == Some(&b'\'');
            if width > 0 && closes { width + 2 } else { 0 }
        }
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

#[cfg(test)]
mod tests {
    use super::code;

    #[test]
    fn words_vanish_and_code_stays() {
        for (source, expected) in [
            ("a // {\nb", "a     \nb"),
            ("/* { /* } */ { */ x", "                  x"),
            (r#"f("{\"}")"#, "f(      )"),
            (r###"f(r#"{"}"#)"###, "f(        )"),
            ("f(b\"{\")", "f(b   )"),
            ("m('{', '\\'', 'é')", "m(   ,     ,     )"),
            ("fn f<'a>(x: &'a str) {}", "fn f<'a>(x: &'a str) {}"),
            ("for r in bars {}", "for r in bars {}"),
            ("\"open", "     "),
        ] {
            assert_eq!(code(source), expected, "{source}");
        }
    }
}
