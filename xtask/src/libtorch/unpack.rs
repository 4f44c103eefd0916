//! Taking files out of a zip archive: only regular files, only below the target, only the announced length.

use crate::{files, progress};
use anyhow::{Context, Result, bail, ensure};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Component, Path};
use zip::ZipArchive;
use zip::read::ZipFile;

/// Smallest file worth a wait for the disk: a library. Headers that a power loss emptied would not compile, and be seen.
const SYNC_FROM: u64 = 1 << 20;

/// Writes the wanted entries of `archive` below `target`; answers how many. `place` says where an entry goes: relative, `None` to leave it.
///
/// # Errors
/// A name that leaves the target, a link or device, two entries for one place, a length or checksum that is not the
/// announced one: the archive is refused at the first of them.
pub(crate) fn unpack(
    archive: &Path,
    target: &Path,
    place: &dyn Fn(&str) -> Option<String>,
) -> Result<usize> {
    let context = || format!("cannot unpack {}", archive.display());
    let mut zip =
        ZipArchive::new(File::open(archive).with_context(context)?).with_context(context)?;
    let label = format!("unpacking {}", files::name(archive));
    let progress = progress::count(&label, zip.len() as u64);
    let mut written = 0;
    for index in 0..zip.len() {
        let mut entry = zip.by_index(index).with_context(context)?;
        let name = entry.name().with_context(context)?.into_owned();
        require_inside(&name).with_context(context)?;
        if let Some(place) = entry.is_file().then(|| place(&name)).flatten() {
            write(&mut entry, &name, &target.join(place)).with_context(context)?;
            written += 1;
        }
        progress.inc(1);
    }
    Ok(written)
}

/// Refuses names that could leave the folder they are joined to.
fn require_inside(name: &str) -> Result<()> {
    let plain = |part| matches!(part, Component::Normal(_));
    let inside =
        !name.is_empty() && !name.contains(['\\', '\0']) && Path::new(name).components().all(plain);
    ensure!(inside, "refused: the entry {name:?} points outside");
    Ok(())
}

/// Writes one entry to a place where nothing is yet.
fn write<R: Read>(entry: &mut ZipFile<'_, R>, name: &str, place: &Path) -> Result<()> {
    const KIND: u32 = 0o170_000;
    const REGULAR: u32 = 0o100_000;
    let size = entry.size();
    let kind = entry.unix_mode().unwrap_or(0) & KIND;
    ensure!(
        kind == 0 || kind == REGULAR,
        "refused: the entry {name:?} is no regular file"
    );
    if let Some(folder) = place.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut file = File::create_new(place).with_context(|| {
        format!(
            "the entry {name:?} cannot be written to {}",
            place.display()
        )
    })?;
    // One byte more than announced is enough to see that there is more.
    let written = io::copy(&mut entry.take(size.saturating_add(1)), &mut file)
        .with_context(|| format!("the entry {name:?}"))?;
    if written != size {
        bail!("the entry {name:?}: expected {size} bytes, got {written}");
    }
    if size >= SYNC_FROM {
        file.sync_all()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::libtorch::fake::zip as fake_zip;

    /// Unpacks every file of an archive with these entries, as it is named.
    fn all(entries: &[(&str, &[u8])]) -> (tempfile::TempDir, Result<usize>) {
        let folder = tempfile::tempdir().unwrap();
        let archive = folder.path().join("archive.zip");
        fs::write(&archive, fake_zip(entries)).unwrap();
        let target = folder.path().join("a/target");
        let outcome = unpack(&archive, &target, &|name| Some(name.to_owned()));
        (folder, outcome)
    }

    #[test]
    fn files_arrive_whole_and_in_place() {
        let big = vec![7; 100_000];
        let (folder, outcome) = all(&[("x/y.h", b"header"), ("big", &big), ("empty", b"")]);
        assert_eq!(outcome.unwrap(), 3);
        let read = |name: &str| fs::read(folder.path().join("a/target").join(name)).unwrap();
        assert_eq!((read("x/y.h"), read("big")), (b"header".to_vec(), big));
        assert!(read("empty").is_empty());
    }

    /// Names that lead out of the folder, or are no names of files in it on some system.
    const EVIL: [&str; 20] = [
        "..",
        "../out",
        "../../out",
        "../../../../../../../../out",
        "x/..",
        "x/../../out",
        "x/y/../../../out",
        "x/./../../out",
        "/out",
        "//out",
        "/../out",
        "./out",
        "x/../..",
        "../.",
        "..\\out",
        "x\\..\\out",
        "\\out",
        "C:\\out",
        "\\\\host\\out",
        "out\0.h",
    ];

    #[test]
    fn sixty_archives_whose_names_leave_the_target_are_refused_before_anything_escapes() {
        for name in EVIL {
            let (fine, evil) = (("fine", &b"x"[..]), (name, &b"evil"[..]));
            for entries in [&[evil][..], &[evil, fine], &[fine, evil]] {
                let (folder, outcome) = all(entries);
                let text = format!("{:#}", outcome.expect_err(name));
                assert!(text.contains("refused"), "{name}: {text}");
                let mut escaped = files::below(folder.path(), |_| true).unwrap();
                escaped.retain(|path| !path.starts_with(folder.path().join("a/target")));
                assert_eq!(escaped, [folder.path().join("archive.zip")], "{name}");
                assert!(!Path::new("/out").exists());
            }
        }
    }

    #[test]
    fn names_that_leave_the_target_are_refused_even_where_the_entry_is_not_wanted() {
        let folder = tempfile::tempdir().unwrap();
        let archive = folder.path().join("archive.zip");
        fs::write(&archive, fake_zip(&[("../out", b"evil")])).unwrap();
        assert!(unpack(&archive, folder.path(), &|_| None).is_err());
    }

    #[test]
    fn two_entries_for_one_place_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let archive = folder.path().join("archive.zip");
        fs::write(&archive, fake_zip(&[("a", b"1"), ("b", b"2")])).unwrap();
        let outcome = unpack(&archive, &folder.path().join("t"), &|_| {
            Some("same".to_owned())
        });
        assert!(format!("{:#}", outcome.unwrap_err()).contains("\"b\""));
    }

    #[test]
    fn links_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let archive = folder.path().join("archive.zip");
        let mut writer = zip::ZipWriter::new(File::create(&archive).unwrap());
        let options = zip::write::SimpleFileOptions::default();
        writer.add_symlink("link", "/etc/passwd", options).unwrap();
        writer.finish().unwrap();
        let target = folder.path().join("t");
        let outcome = unpack(&archive, &target, &|name| Some(name.to_owned()));
        // A reader may count a link as no file at all (left out) or as a file (refused): never written.
        assert!(outcome.map_or(true, |written| written == 0));
        assert!(!target.join("link").exists());
    }

    #[test]
    fn a_damaged_entry_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let archive = folder.path().join("archive.zip");
        let mut bytes = fake_zip(&[("stored", b"0123456789abcdef")]);
        let at = bytes
            .windows(4)
            .position(|window| window == b"4567")
            .unwrap();
        bytes[at] ^= 1;
        fs::write(&archive, bytes).unwrap();
        let outcome = unpack(&archive, &folder.path().join("t"), &|n| Some(n.to_owned()));
        assert!(outcome.is_err());
    }
}
