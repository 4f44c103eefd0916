//! `cargo xtask pages`: the commands of the pages, run as a reader types them.

mod blocks;
mod scene;

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use crate::{command, files, program, workspace};
use blocks::Block;
use scene::Scene;

/// Which pages.
#[derive(clap::Args)]
pub(crate) struct Pages {
    /// These pages alone, by the names of their files
    #[arg(long, value_name = "PAGE,…", value_delimiter = ',')]
    pub(crate) only: Vec<String>,
}

/// What a newcomer reads first: it trains the model, makes the pictures and writes the recipe that other pages take up.
const FIRST: &str = "quick-start.md";

/// Runs every block of commands that is not marked, page after page.
pub(crate) fn run(args: &Pages) -> Result<()> {
    program::build("--package meanflow-cli --examples --bins")?;
    let folder = workspace::root().join("target/pages");
    let pages = pages()?;
    let find = |wanted: &str| pages.iter().find(|(name, _)| name == wanted);
    for name in &args.only {
        ensure!(find(name).is_some(), "no page has the name {name}");
    }
    let (_, blocks) = find(FIRST).with_context(|| format!("no {FIRST}"))?;
    let first = Scene::new(&folder.join("clone"), None)?;
    follow(FIRST, &first, blocks)?;
    for (name, blocks) in &pages {
        let wanted = args.only.is_empty() || args.only.contains(name);
        if name != FIRST && wanted && !blocks.is_empty() {
            let scene = Scene::new(&folder.join(name), Some(&first))?;
            furnish(name, &scene)?;
            follow(name, &scene, blocks)?;
            files::remove(&scene.path(""))?;
        }
    }
    Ok(())
}

/// Runs the blocks of a page one after the other; ends its servers whatever happens.
fn follow(name: &str, scene: &Scene, blocks: &[Block]) -> Result<()> {
    let begun = Instant::now();
    let marked = |block: &Block| Some(format!("line {} {}", block.line, block.left_out?));
    let mut left: Vec<String> = blocks.iter().filter_map(marked).collect();
    let run = || blocks.iter().filter(|block| block.left_out.is_none());
    let result = run().try_for_each(|block| {
        let shown = || format!("{name}, line {}:\n{}", block.line, block.text);
        scene.run(block).with_context(shown)
    });
    scene.end()?;
    result?;
    let left_out = scene.left_out()?;
    let commands = run().flat_map(Block::commands).count() - left_out.len();
    left.extend(left_out);
    let left = match left.as_slice() {
        [] => String::new(),
        left => format!("; not run: {}", left.join(", ")),
    };
    println!(
        "{name}: {commands} lines, {:.0} s{left}",
        begun.elapsed().as_secs_f64()
    );
    Ok(())
}

/// What a page speaks of that the quick start did not make.
fn furnish(name: &str, scene: &Scene) -> Result<()> {
    let moved = |here: &str, there: &str| {
        let [here, there] = [here, there].map(|name| scene.path(name));
        command::succeed(Command::new("mv").args([here, there]))
    };
    match name {
        // Its classes are other ones, and so is its run.
        "own-pictures.md" => {
            moved("pictures/three", "pictures/animal")?;
            moved("pictures/seven", "pictures/flag")?;
            files::remove(&scene.path("runs/pictures"))?;
        }
        "troubleshooting.md" => moved("runs/short", "runs/mine")?,
        _ => {}
    }
    Ok(())
}

/// All pages, by the names of their files, with their blocks. Translations show the commands of their original and are not run.
fn pages() -> Result<Vec<(String, Vec<Block>)>> {
    let root = workspace::root();
    let mut paths = files::entries(&root.join("docs/src"))?;
    paths.push(root.join("README.md"));
    paths.retain(|path| files::ends(path, "md"));
    paths.sort();
    paths.into_iter().map(|path| page(&path)).collect()
}

fn page(path: &Path) -> Result<(String, Vec<Block>)> {
    let name = files::name(path);
    let blocks = blocks::read(&files::read(path)?).with_context(|| name.clone())?;
    Ok((name, blocks))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_block_says_what_it_is_and_every_reason_is_used() {
        let pages = pages().unwrap();
        let blocks = pages.iter().flat_map(|(_, blocks)| blocks);
        let (run, left): (Vec<_>, Vec<_>) = blocks.partition(|block| block.left_out.is_none());
        assert!(
            run.len() > 30 && left.len() < run.len(),
            "{} run, {} left",
            run.len(),
            left.len()
        );
    }

    #[test]
    fn a_translation_shows_the_commands_of_its_original() {
        let folder = workspace::root().join("docs/src");
        for path in files::entries(&folder.join("zh")).unwrap() {
            let texts = |path: &Path| -> Vec<String> {
                let commands =
                    |block: &Block| block.commands().map(str::to_owned).collect::<Vec<_>>();
                page(path).unwrap().1.iter().flat_map(commands).collect()
            };
            let original = folder.join(files::name(&path));
            assert_eq!(texts(&path), texts(&original), "{}", path.display());
        }
    }
}
