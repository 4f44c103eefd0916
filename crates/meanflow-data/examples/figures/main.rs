//! The drawings of the book's introduction, as SVG: trajectories against one jump, the chord, the law of (r, t), and
//! text of a terminal.
//!
//! `cargo run -p meanflow-data --example figures -- docs/src/images`
//! `cargo run -p meanflow-data --example figures -- docs/src/images/training.svg < docs/src/images/training.txt`

mod chord;
mod panel;
mod terminal;
mod times;
mod trajectories;

use std::error::Error;
use std::io::{Read, Write};
use std::path::Path;

use meanflow_files::Durability;

/// Name and content of every drawing that follows from formulas.
pub(crate) fn drawings() -> Result<Vec<(&'static str, String)>, Box<dyn Error>> {
    Ok(vec![
        ("trajectories.svg", trajectories::draw()?),
        ("chord.svg", chord::draw()?),
        ("times.svg", times::draw()),
    ])
}

/// What a terminal showed, as a drawing.
pub(crate) fn terminal(text: &str) -> String {
    terminal::draw(text)
}

#[allow(dead_code, reason = "the test that includes this file calls its parts")]
fn main() -> Result<(), Box<dyn Error>> {
    let out = std::env::args()
        .nth(1)
        .ok_or("a folder, or an .svg file for the text of standard input")?;
    let out = Path::new(&out);
    if out.extension().is_some_and(|extension| extension == "svg") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text)?;
        return save(out, &terminal(&text));
    }
    for (name, svg) in drawings()? {
        save(&out.join(name), &svg)?;
    }
    Ok(())
}

/// Writes a file as a whole.
#[allow(dead_code, reason = "the test that includes this file calls its parts")]
fn save(path: &Path, text: &str) -> Result<(), Box<dyn Error>> {
    let failed = |error: std::io::Error| Box::<dyn Error>::from(error);
    meanflow_files::replace(path, Durability::Unsynced, failed, |file| {
        file.write_all(text.as_bytes()).map_err(failed)
    })?;
    println!("{}", path.display());
    Ok(())
}
