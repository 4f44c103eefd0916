//! Where a program looks for its libraries, changed in the program: cargo writes the folder of the machine that it builds on.

use crate::files;
use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::Path;

/// Kinds of the program's segments, and tags of its dynamic section.
const LOAD: u64 = 1;
const DYNAMIC: u64 = 2;
const STRINGS: u64 = 5;
const RUNPATH: u64 = 29;

/// Sets the run path of a program (ELF, 64 bits) to one that is not longer.
pub(super) fn set(program: &Path, path: &str) -> Result<()> {
    let mut bytes =
        fs::read(program).with_context(|| format!("cannot read {}", program.display()))?;
    changed(&mut bytes, path)
        .with_context(|| format!("{}: cannot change its run path", program.display()))?;
    let about = fs::metadata(program).context("cannot look at a program")?;
    files::write(program, bytes)?;
    fs::set_permissions(program, about.permissions()).context("cannot make a program one")
}

fn changed(bytes: &mut [u8], path: &str) -> Result<()> {
    let at = place(bytes).context("expected a program in ELF of 64 bits with a run path")?;
    let length = bytes[at..]
        .iter()
        .position(|byte| *byte == 0)
        .context("a text without end")?;
    ensure!(
        path.len() <= length,
        "expected at most {length} characters, got {path}"
    );
    bytes[at..at + length].fill(0);
    bytes[at..at + path.len()].copy_from_slice(path.as_bytes());
    Ok(())
}

/// Where the text of the run path begins.
fn place(bytes: &[u8]) -> Option<usize> {
    // 64 bits, least byte first.
    bytes.starts_with(b"\x7fELF\x02\x01").then_some(())?;
    let segments = segments(bytes)?;
    let (_, start, _, size) = *segments.iter().find(|(kind, ..)| *kind == DYNAMIC)?;
    let tag = |wanted| {
        let entries = (start..start + size).step_by(16);
        entries
            .map_while(|at| Some((number(bytes, at, 8)?, number(bytes, at + 8, 8)?)))
            .find(|(tag, _)| *tag == wanted)
    };
    let (_, strings) = tag(STRINGS)?;
    let (_, offset) = tag(RUNPATH)?;
    let holds = |&&(kind, _, address, size): &&(u64, u64, u64, u64)| {
        kind == LOAD && (address..address + size).contains(&strings)
    };
    let (_, file, address, _) = *segments.iter().find(holds)?;
    usize::try_from(file + (strings - address) + offset)
        .ok()
        .filter(|at| *at < bytes.len())
}

/// Kind, offset in the file, address and size in the file of every segment.
fn segments(bytes: &[u8]) -> Option<Vec<(u64, u64, u64, u64)>> {
    let (table, size, count) = (
        number(bytes, 0x20, 8)?,
        number(bytes, 0x36, 2)?,
        number(bytes, 0x38, 2)?,
    );
    let segment = |index| {
        let at = table + index * size;
        Some((
            number(bytes, at, 4)?,
            number(bytes, at + 8, 8)?,
            number(bytes, at + 16, 8)?,
            number(bytes, at + 32, 8)?,
        ))
    };
    (0..count).map(segment).collect()
}

fn number(bytes: &[u8], at: u64, width: usize) -> Option<u64> {
    let at = usize::try_from(at).ok()?;
    let mut eight = [0; 8];
    eight[..width].copy_from_slice(bytes.get(at..at.checked_add(width)?)?);
    Some(u64::from_le_bytes(eight))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A program of two segments: one of everything, and its dynamic section.
    fn program(run_path: &str) -> Vec<u8> {
        let mut bytes = vec![0; 0x40];
        bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
        bytes[0x20] = 0x40;
        bytes[0x36] = 56;
        bytes[0x38] = 2;
        let mut segment = |kind: u64, offset: u64, address: u64, size: u64| {
            bytes.extend((kind as u32).to_le_bytes());
            bytes.extend([0; 4]);
            for value in [offset, address, 0, size, size, 8] {
                bytes.extend(value.to_le_bytes());
            }
        };
        segment(LOAD, 0, 0x1000, 0x400);
        segment(DYNAMIC, 0xb0, 0x10b0, 48);
        for value in [STRINGS, 0x1000 + 0xe0, RUNPATH, 5, 0, 0] {
            bytes.extend(value.to_le_bytes());
        }
        bytes.extend(b"\0abc\0");
        bytes.extend(run_path.as_bytes());
        bytes.extend(b"\0next\0");
        bytes
    }

    #[test]
    fn the_text_is_replaced_and_nothing_else() {
        let (mut bytes, before) = (program("/home/someone/lib"), program("/home/someone/lib"));
        changed(&mut bytes, "$ORIGIN/../lib").unwrap();
        let at = 0xe0 + 5;
        assert_eq!(&bytes[at..at + 17], b"$ORIGIN/../lib\0\0\0");
        assert_eq!(
            (&bytes[..at], &bytes[at + 17..]),
            (&before[..at], &before[at + 17..])
        );
    }

    #[test]
    fn longer_texts_and_other_files_are_refused() {
        assert!(changed(&mut program("/lib"), "$ORIGIN/../lib").is_err());
        assert!(changed(&mut b"#!/bin/sh\n".to_vec(), "x").is_err());
        let whole = program("/home/someone/lib");
        for length in 0..0xe0 {
            assert!(
                changed(&mut whole[..length].to_vec(), "x").is_err(),
                "{length}"
            );
        }
    }
}
