//! The blocks of commands of a page, and what is said about those that a test cannot run.

use anyhow::{Result, bail};

/// Why a block is not run: a word behind `sh` at its fence, and what it stands for.
const MARKS: [(&str, &str); 4] = [
    ("gpu", "needs a GPU"),
    ("fetch", "needs what must be fetched"),
    ("long", "takes too long"),
    ("yours", "acts on the reader's own"),
];

/// A block of shell commands.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Block {
    /// The line of its fence, from 1.
    pub(super) line: usize,
    /// Why it is not run.
    pub(super) left_out: Option<&'static str>,
    pub(super) text: String,
}

impl Block {
    /// The files and folders that it says it writes: what follows `--out` or `>`, but for `-`.
    pub(super) fn outputs(&self) -> Vec<&str> {
        let mut words = self.commands().flat_map(str::split_whitespace);
        let mut outputs = Vec::new();
        while let Some(word) = words.next() {
            if matches!(word, "--out" | ">") {
                outputs.extend(words.next().filter(|output| *output != "-"));
            }
        }
        outputs
    }

    /// Its lines without comments.
    pub(super) fn commands(&self) -> impl Iterator<Item = &str> {
        let lines = self.text.lines();
        let without = |line| str::split(line, " #").next().unwrap_or_default().trim();
        lines
            .map(without)
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
    }
}

/// The blocks that start with ```` ```sh ````. A fence without a language is refused: it could be commands that nobody runs.
pub(super) fn read(page: &str) -> Result<Vec<Block>> {
    let mut blocks = Vec::new();
    let mut lines = page.lines().zip(1..);
    while let Some((fence, line)) = lines.next() {
        let Some(info) = fence.strip_prefix("```") else {
            continue;
        };
        let body = lines.by_ref().map(|(line, _)| line);
        let body: Vec<&str> = body.take_while(|line| *line != "```").collect();
        let mut words = info.split_whitespace();
        match words.next() {
            None => bail!(
                "line {line}: a block without a language; commands are `sh`, output is `text`"
            ),
            Some("sh") => {}
            Some(_) => continue,
        }
        let mark = words.next();
        let known = mark.map(|word| MARKS.iter().find(|(mark, _)| *mark == word));
        if known == Some(None) {
            bail!("line {line}: `{info}`: expected gpu, fetch, long or yours behind sh");
        }
        blocks.push(Block {
            line,
            left_out: known.flatten().map(|(_, reason)| *reason),
            text: body.join("\n"),
        });
    }
    Ok(blocks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_read_with_their_marks_and_outputs() {
        let page = "words\n```sh\nmeanflow a --out x/ # --out no\nb > y\nc --out -\n```\n```text\nz\n```\n```sh gpu\nd\n```\n";
        let blocks = read(page).unwrap();
        let [first, second] = &blocks[..] else {
            panic!("{blocks:?}")
        };
        assert_eq!((first.line, first.left_out), (2, None));
        assert_eq!(first.outputs(), ["x/", "y"]);
        assert_eq!((second.line, second.left_out), (10, Some("needs a GPU")));
    }

    #[test]
    fn a_block_of_nothing_known_is_refused() {
        for page in ["```\na\n```\n", "```sh some day\na\n```\n"] {
            assert!(read(page).is_err(), "{page}");
        }
    }
}
