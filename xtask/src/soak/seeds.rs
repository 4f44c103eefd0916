//! The sample of a seed is the same whichever seeds are drawn with it, and in which order.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::runs::Runs;

/// Seeds that are drawn together.
const GROUPS: [usize; 4] = [1, 3, 16, 64];

/// Draws so many seeds at once, then in groups of each size, in random order, and compares the pictures.
pub(super) fn run(runs: &mut Runs, count: usize) -> Result<()> {
    let mut seeds: Vec<usize> = (0..count).collect();
    let expected = draw(runs, &seeds)?;
    let mut calls = 0;
    for size in GROUPS {
        runs.random.shuffle(&mut seeds);
        for group in seeds.chunks(size) {
            for (seed, picture) in draw(runs, group)? {
                ensure!(
                    expected.get(&seed) == Some(&picture),
                    "seed {seed} among {group:?} is another picture than among all"
                );
            }
            calls += 1;
        }
    }
    println!("seeds: {count} in groups of {GROUPS:?}, {calls} calls; 0 pictures differ");
    Ok(())
}

/// The pictures of these seeds, by seed.
fn draw(runs: &Runs, seeds: &[usize]) -> Result<BTreeMap<usize, Vec<u8>>> {
    let folder = runs.folder.join("samples");
    let listed: Vec<String> = seeds.iter().map(usize::to_string).collect();
    runs.sample(&listed.join(","), &folder)?;
    let pictures = seeds
        .iter()
        .map(|seed| Ok((*seed, picture(&folder, *seed)?)))
        .collect::<Result<_>>()?;
    fs::remove_dir_all(&folder)?;
    Ok(pictures)
}

fn picture(folder: &Path, seed: usize) -> Result<Vec<u8>> {
    let path = folder.join(format!("{:06}/{seed:06}.png", seed - seed % 1000));
    fs::read(&path).with_context(|| format!("cannot read {}", path.display()))
}
