//! The drawings of the book are those that the code makes, and what they show holds.

#[path = "../examples/figures/main.rs"]
mod figures;

use std::path::{Path, PathBuf};

fn images() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/src/images")
}

/// The file of the book, with the command that makes it anew where it is another.
fn assert_is_in_the_book(name: &str, drawing: &str) {
    let path = images().join(name);
    let stored = std::fs::read_to_string(&path).unwrap();
    assert!(
        stored == drawing,
        "{} is not what the code draws: cargo run -p meanflow-data --example figures -- docs/src/images",
        path.display()
    );
}

#[test]
fn drawings_of_the_book_are_of_this_code() {
    for (name, drawing) in figures::drawings().unwrap() {
        assert_is_in_the_book(name, &drawing);
    }
    let text = std::fs::read_to_string(images().join("training.txt")).unwrap();
    assert_is_in_the_book("training.svg", &figures::terminal(&text));
}

#[test]
fn text_of_a_terminal_is_escaped() {
    let drawing = figures::terminal("$ a < b && c\n\"d\" > e");
    assert!(drawing.contains("a &lt; b &amp;&amp; c"));
    assert!(drawing.contains("&gt; e"));
}
